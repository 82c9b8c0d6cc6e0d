"""Secrets that stay on the host: the guest has a placeholder, the host of the secret gets the value."""

import base64
import binascii

# What a placeholder may stand in. A body is the guest's text, and a URL ends in logs.
AUTHORIZATION = "authorization"


def put_in(headers, secrets):
    """Put values in the place of placeholders in a request's headers; true if there was one."""
    found = False
    for name in list(headers.keys()):
        before = headers.get_all(name)
        after = [replace(name, value, secrets) for value in before]
        if after != before:
            headers.set_all(name, after)
            found = True
    return found


def replace(name, value, secrets):
    for secret in secrets:
        value = value.replace(secret.placeholder, secret.value)
    scheme, _, rest = value.partition(" ")
    if name.lower() == AUTHORIZATION and scheme.lower() == "basic":
        try:
            plain = base64.b64decode(rest, validate=True)
        except binascii.Error:
            return value
        put = plain
        for secret in secrets:
            put = put.replace(secret.placeholder.encode(), secret.value.encode())
        if put != plain:
            return f"{scheme} {base64.b64encode(put).decode()}"
    return value


def take_out_of(response, secrets):
    """An answer may repeat what was asked: values become placeholders again in all of it but the body."""
    if not secrets:
        return
    response.reason = text(response.reason, secrets)
    for headers in (response.headers, response.trailers or {}):
        for name in list(headers.keys()):
            before = headers.get_all(name)
            after = [text(value, secrets) for value in before]
            if after != before:
                headers.set_all(name, after)


def text(value, secrets):
    for secret in secrets:
        value = value.replace(secret.value, secret.placeholder)
    return value


def body(data, secrets):
    """A body that is there as a whole."""
    redact = Redactor(secrets)
    return redact(data) + redact(b"")


class Redactor:
    """Takes values out of a body that comes in pieces, without keeping back more than may begin a value."""

    def __init__(self, secrets):
        self._pairs = [(secret.value.encode(), secret.placeholder.encode()) for secret in secrets]
        self._kept = b""

    def __call__(self, piece: bytes) -> bytes:
        data = self._kept + piece
        for value, placeholder in self._pairs:
            data = data.replace(value, placeholder)
        # The last piece of a stream is empty.
        keep = self._begun(data) if piece else 0
        self._kept = data[len(data) - keep :]
        return data[: len(data) - keep]

    def _begun(self, data: bytes) -> int:
        """Length of the longest end of the data that is the beginning of a value."""
        longest = 0
        for value, _ in self._pairs:
            for length in range(min(len(value) - 1, len(data)), longest, -1):
                if data.endswith(value[:length]):
                    longest = length
                    break
        return longest
