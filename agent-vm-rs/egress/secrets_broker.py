"""Secrets that stay on the host: the guest has a placeholder, and only the secret's host gets the value."""

import base64
import dataclasses
import re

# Headers in which placeholders are replaced. A body may contain any text of the guest's, and URLs end up in logs.
AUTHORIZATION = "authorization"


def put_in(headers, secrets):
    """Replaces placeholders by values in a request's headers.

    Returns the inserted secrets, which must be removed from the response, including encoded forms.
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
            # Not base64. Characters beyond ASCII raise ValueError instead of binascii.Error.
            return value
        put = plain
        for secret in secrets:
            put = put.replace(secret.placeholder.encode(), secret.value.encode())
        if put != plain:
            return f"{scheme} {base64.b64encode(put).decode()}"
    return value


def encoded(before, after, secrets):
    """Returns the encoded secret of a `Basic` header; None for a header that shows its values unencoded."""
    if text(after, secrets) != after:
        return None
    return dataclasses.replace(secrets[0], placeholder=before.partition(" ")[2], value=after.partition(" ")[2])


def take_out_of(response, secrets):
    """Replaces values by placeholders everywhere in a response but in its body: a response may repeat a request."""
    if not secrets:
        return
    response.data.reason = text(response.data.reason, secrets)
    for headers in (response.headers, response.trailers):
        if headers:
            headers.fields = tuple(
                (name, text(value, secrets)) for name, value in headers.fields if not names_value(name, secrets)
            )


def names_value(name, secrets):
    """Returns whether a header's name contains a value. Names in HTTP/2 have no capitals."""
    return any(secret.value.encode().lower() in name.lower() for secret in secrets)


def text(value, secrets):
    """Replaces values by placeholders in a complete text or bytes."""
    # A value may be a prefix of another.
    for secret in sorted(secrets, key=lambda secret: -len(secret.value)):
        pair = secret.value, secret.placeholder
        value = value.replace(*(pair if isinstance(value, str) else map(str.encode, pair)))
    return value


def without_length(request, response, secrets):
    """Removes the length of a response body if a value and its placeholder differ in length."""
    headers = response.headers
    if all(len(secret.value.encode()) == len(secret.placeholder.encode()) for secret in secrets):
        return
    # RFC 9112, 6.3: these responses have no body, whatever their headers say.
    if request.method.upper() == "HEAD" or response.status_code < 200 or response.status_code in (204, 304):
        return
    if headers.pop("content-length", None) is None or response.http_version == "HTTP/2.0":
        return
    if request.http_version == "HTTP/1.0":
        headers["connection"] = "close"
    else:
        headers["transfer-encoding"] = "chunked"


def body(data, secrets):
    """Replaces values by placeholders in a complete body."""
    redact = Redactor(secrets)
    return redact(data) + redact(b"")


class Redactor:
    """Replaces values in a body that arrives in pieces. It holds back only bytes that may begin a value."""

    def __init__(self, secrets):
        self._placeholders = {secret.value.encode(): secret.placeholder.encode() for secret in secrets}
        # Longest first: a value may be a prefix of another.
        self._values = sorted(self._placeholders, key=len, reverse=True)
        self._any = re.compile(b"|".join(map(re.escape, self._values)))
        self._kept = b""

    def __call__(self, piece: bytes) -> bytes:
        data = self._kept + piece
        # An empty piece ends the stream.
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
        """Returns where an incomplete value begins at the end of the data."""
        longest = len(self._values[0])
        starts = range(max(0, len(data) - longest + 1), len(data))
        ends = ((start, data[start:]) for start in starts)
        return [start for start, end in ends if any(value != end and value.startswith(end) for value in self._values)]
