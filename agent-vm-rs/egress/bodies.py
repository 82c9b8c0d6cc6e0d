"""How answers' bodies go through mitmproxy: where it would stop at a trailer, or take an empty piece for the end."""

import functools

import h11
from h11._readers import ChunkedReader
from mitmproxy.proxy.layers import http
from mitmproxy.proxy.layers.http import _events, _http1


def amend():
    _http1.make_body_reader = without_trailers(_http1.make_body_reader)
    http.HttpStream.state_stream_response_body = without_empty(http.HttpStream.state_stream_response_body)


class Reader(ChunkedReader):
    """Drops trailers, as RFC 9110 (6.5.1) lets a proxy do: mitmproxy breaks off at them in HTTP/1."""

    def __call__(self, buffer):
        event = super().__call__(buffer)
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event


def without_trailers(make):
    @functools.wraps(make)
    def make_body_reader(expected_size):
        return Reader() if expected_size is None else make(expected_size)

    return make_body_reader


def without_empty(state):
    """An empty piece tells who looks into a body that it is at its end; HTTP/2 can have such before."""

    @functools.wraps(state)
    def state_stream_response_body(self, event):
        if not isinstance(event, _events.ResponseData) or event.data:
            yield from state(self, event)

    return state_stream_response_body
