"""What is said of a failure: our own words, to the guest and in every log.

mitmproxy's words repeat what a peer has sent (a status line, a header, a chunk, a close reason), and a host that was sent
a secret may send it back so.
"""

import os
import re
import sys
import traceback

from mitmproxy.proxy import server
from mitmproxy.proxy.layers.http import _http1, _http2

GENERAL = "the connection failed"
# Of getaddrinfo(3), where the resolver's guard gives the last one.
RESOLVER = {
    -2: "the name is not known",
    -3: "the name cannot be resolved now",
    -4: "the name leads to an address of the host or its network",
    -5: "the name has no address",
}
MALFORMED = "the server's answer is malformed"
# How mitmproxy's own texts begin, and what is said in their place.
BEGINNINGS = [
    ("server closed connection", "the server closed the connection"),
    ("peer closed connection", "the connection was closed"),
    ("Client disconnected", "the client closed the connection"),
    ("client disconnected", "the client closed the connection"),
    ("connection cancelled", "the connection was closed"),
    ("Connection killed", "too many connections are open"),
    ("stream reset", "the stream was reset"),
    ("HTTP/2 connection closed", "the connection was closed"),
    ("The remote server does not speak TLS", "the server does not speak TLS"),
    ("Certificate verify failed", "the server's certificate is not trusted"),
    ("OpenSSL", "the TLS handshake failed"),
    ("Cannot parse HTTP response", MALFORMED),
    ("unexpected server response", MALFORMED),
    ("Received", MALFORMED),
    ("HTTP/1 protocol error", "malformed HTTP"),
    ("HTTP/2 protocol error", "malformed HTTP"),
    ("Invalid HTTP/2", "malformed HTTP"),
    ("agent-vm: ", None),
]
# Of OpenSSL's (X509_verify_cert_error_string(3)), those that help.
CERTIFICATE = [
    "certificate has expired",
    "certificate is not yet valid",
    "hostname mismatch",
    "IP address mismatch",
    "self signed certificate in certificate chain",
    "self-signed certificate in certificate chain",
    "self signed certificate",
    "self-signed certificate",
    "unable to get issuer certificate",
    "unable to get local issuer certificate",
]
ERRNO = re.compile(r"\[Errno (-?[0-9]{1,3})\]")


def cause(message):
    """What stands for a message of mitmproxy's: nothing of it but what is one of a list."""
    if errno := ERRNO.match(message):
        number = int(errno[1])
        return RESOLVER.get(number, GENERAL) if number < 0 else os.strerror(number).lower()
    for beginning, words in BEGINNINGS:
        if message.startswith(beginning):
            # Our own: `ours` makes them, and no peer's text is in them.
            words = message.removeprefix(beginning) if words is None else words
            if beginning.startswith("Certificate"):
                known = next((one for one in CERTIFICATE if message.endswith(one)), None)
                words += f" ({known})" if known else ""
            return words
    return GENERAL


def ours(words):
    """A message that `cause` gives back as it is."""
    return f"agent-vm: {words}"


def page(status, message):
    return f"agent-vm: {cause(message)}\n".encode()


def log(self, message, level="info", exc_info=None):
    """In place of ConnectionHandler.log: nothing of an error but where it was found, and its connection ends."""
    if level not in ("error", 40):
        return
    error = exc_info if isinstance(exc_info, tuple) else sys.exc_info()
    say(f"mitmproxy failed on a connection{place(error)}")
    for one in list(self.transports.values()):
        if one.handler:
            one.handler.cancel()


def place(error):
    """Kind and place of an exception, without its text and without its values."""
    kind, _, trace = error
    if kind is None:
        return ""
    frames = [f"{os.path.basename(one.filename)}:{one.lineno}" for one in traceback.extract_tb(trace)]
    return f": {kind.__name__} at {', '.join(frames[-6:])}"


# Where words of ours go, once the standard streams lead nowhere.
_stream = None


def say(words):
    print(f"the proxy: {words}", file=_stream or sys.stderr, flush=True)


def silence():
    """From now on nothing but `say` reaches the log: libraries log and print what they were sent."""
    global _stream
    if _stream is None:
        _stream = os.fdopen(os.dup(2), "w")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)


def amend():
    for module in (_http1, _http2):
        module.format_error = page
    for kind in {server.ConnectionHandler, *heirs(server.ConnectionHandler)}:
        if "log" in vars(kind):
            kind.log = log


def heirs(kind):
    return [one for heir in kind.__subclasses__() for one in (heir, *heirs(heir))]
