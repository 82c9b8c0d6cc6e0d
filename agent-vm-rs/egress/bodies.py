"""Fixes for mitmproxy's handling of response bodies: it fails on trailers and takes an empty piece for the end."""

import functools

import h11
from h11._readers import ChunkedReader
from mitmproxy.proxy.layers import http
from mitmproxy.proxy.layers.http import _events, _http1


def patch():
    _http1.make_body_reader = without_trailers(_http1.make_body_reader)
    http.HttpStream.state_stream_response_body = without_empty(http.HttpStream.state_stream_response_body)


class Reader(ChunkedReader):
    """Drops trailers, which RFC 9110 (6.5.1) allows: over HTTP/1, mitmproxy aborts on them."""

    def __call__(self, buffer):
        event = super().__call__(buffer)
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event


def without_trailers(make):
    @functools.wraps(make)
    def make_body_reader(expected_size):
        return Reader() if expected_size is None else make(expected_size)

    return make_body_reader


def without_empty(state):
    """Drops empty pieces: the code that reads a body takes one for its end, and HTTP/2 can send some earlier."""

    @functools.wraps(state)
    def state_stream_response_body(self, event):
        if not isinstance(event, _events.ResponseData) or event.data:
            yield from state(self, event)

    return state_stream_response_body
