"""Secrets that stay on the host: the guest has a placeholder, the host of the secret gets the value."""

import base64
import dataclasses
import re

# What a placeholder may stand in. A body is the guest's text, and a URL ends in logs.
AUTHORIZATION = "authorization"


def put_in(headers, secrets):
    """Put values in the place of placeholders in a request's headers.

    Gives what was put in, for it to be taken out of the answer: nothing, or the secrets and what holds them encoded.
    """
    put = []
    for name in list(headers.keys()):
        before = headers.get_all(name)
        after = [replace(name, value, secrets) for value in before]
        if after != before:
            headers.set_all(name, after)
            put += [encoded(*pair, secrets) for pair in zip(before, after) if pair[0] != pair[1]]
    return (*secrets, *filter(None, put)) if put else ()


def replace(name, value, secrets):
    for secret in secrets:
        value = value.replace(secret.placeholder, secret.value)
    scheme, _, rest = value.partition(" ")
    if name.lower() == AUTHORIZATION and scheme.lower() == "basic":
        try:
            plain = base64.b64decode(rest, validate=True)
        except ValueError:
            # Not base64; of letters beyond ASCII the library says so by another error than binascii.Error.
            return value
        put = plain
        for secret in secrets:
            put = put.replace(secret.placeholder.encode(), secret.value.encode())
        if put != plain:
            return f"{scheme} {base64.b64encode(put).decode()}"
    return value


def encoded(before, after, secrets):
    """What a header holds values in that does not show them: what follows `Basic`; None of one that shows them."""
    if text(after, secrets) != after:
        return None
    return dataclasses.replace(secrets[0], placeholder=before.partition(" ")[2], value=after.partition(" ")[2])


def take_out_of(response, secrets):
    """An answer may repeat what was asked: values become placeholders again in all of it but the body."""
    if not secrets:
        return
    response.data.reason = text(response.data.reason, secrets)
    for headers in (response.headers, response.trailers):
        if headers:
            headers.fields = tuple(
                (name, text(value, secrets)) for name, value in headers.fields if not names_value(name, secrets)
            )


def names_value(name, secrets):
    """Whether the name of a header holds a value, as far as names can: HTTP/2 has none of capitals."""
    return any(secret.value.encode().lower() in name.lower() for secret in secrets)


def text(value, secrets):
    """What is there as a whole, and is text or bytes."""
    # One may begin another.
    for secret in sorted(secrets, key=lambda secret: -len(secret.value)):
        pair = secret.value, secret.placeholder
        value = value.replace(*(pair if isinstance(value, str) else map(str.encode, pair)))
    return value


def without_length(request, response):
    """Has a body be of a length that is not known before: a value and its placeholder need not be of one length."""
    headers = response.headers
    # RFC 9112, 6.3: these have none, whatever their headers say.
    if request.method.upper() == "HEAD" or response.status_code < 200 or response.status_code in (204, 304):
        return
    if headers.pop("content-length", None) is None or response.http_version == "HTTP/2.0":
        return
    if request.http_version == "HTTP/1.0":
        headers["connection"] = "close"
    else:
        headers["transfer-encoding"] = "chunked"


def body(data, secrets):
    """A body that is there as a whole."""
    redact = Redactor(secrets)
    return redact(data) + redact(b"")


class Redactor:
    """Takes values out of a body that comes in pieces, without keeping back more than may begin a value."""

    def __init__(self, secrets):
        self._placeholders = {secret.value.encode(): secret.placeholder.encode() for secret in secrets}
        # The longest first: one may begin another.
        self._values = sorted(self._placeholders, key=len, reverse=True)
        self._any = re.compile(b"|".join(map(re.escape, self._values)))
        self._kept = b""

    def __call__(self, piece: bytes) -> bytes:
        data = self._kept + piece
        # The last piece of a stream is empty.
        begun = self._begun(data) if piece else []
        clean, done = [], 0
        for found in self._any.finditer(data):
            if any(done <= start <= found.start() for start in begun):
                break
            clean += [data[done : found.start()], self._placeholders[found[0]]]
            done = found.end()
        keep = next((start for start in begun if start >= done), len(data))
        self._kept = data[keep:]
        return b"".join([*clean, data[done:keep]])

    def _begun(self, data: bytes) -> list[int]:
        """Where an end of the data is the beginning of a value, but not all of it."""
        longest = len(self._values[0])
        starts = range(max(0, len(data) - longest + 1), len(data))
        ends = ((start, data[start:]) for start in starts)
        return [start for start, end in ends if any(value != end and value.startswith(end) for value in self._values)]
