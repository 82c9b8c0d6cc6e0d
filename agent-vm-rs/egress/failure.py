"""Error messages: our own texts, for the guest and for every log.

mitmproxy's messages quote what a peer sent (a status line, a header, a chunk, a close reason), and a server that was sent a
secret could return it in these.
"""

import os
import re
import sys
import traceback

import resolver
from mitmproxy.proxy import server
from mitmproxy.proxy.layers.http import _http1, _http2

GENERAL = "the connection failed"
# Error numbers of getaddrinfo(3). Our guard of the resolver raises -4.
RESOLVER = {
    -2: "unknown host name",
    -3: "host name lookup failed, try again",
    -4: "the host name resolves to a closed address; on the host, agent-vm egress log --denied shows it",
    -5: "the host name has no address",
}
MALFORMED = "the server's answer is malformed"
# Beginnings of mitmproxy's messages, with our text for each.
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
# Reasons of OpenSSL (X509_verify_cert_error_string(3)) that are passed on.
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
# Error of the resolver's guard, with the name that the guest asked for.
UNRESOLVED = re.compile(rf"\[Errno -[0-9]{{1,3}}\] ([A-Za-z0-9._-]{{1,253}}) {resolver.UNRESOLVED}")


def cause(message):
    """Returns our text for a message of mitmproxy's; it contains nothing from a peer."""
    if errno := ERRNO.match(message):
        number = int(errno[1])
        return RESOLVER.get(number, GENERAL) if number < 0 else os.strerror(number).lower()
    for beginning, words in BEGINNINGS:
        if message.startswith(beginning):
            # `ours` made this message, which contains no text from a peer.
            words = message.removeprefix(beginning) if words is None else words
            if beginning.startswith("Certificate"):
                known = next((one for one in CERTIFICATE if message.endswith(one)), None)
                words += f" ({known})" if known else ""
            return words
    return GENERAL


def ours(words):
    """Returns a message that `cause` returns unchanged."""
    return f"agent-vm: {words}"


def page(status, message):
    named = UNRESOLVED.fullmatch(message)
    return f"agent-vm: {cause(message)}{f': {named[1]}' if named else ''}\n".encode()


def log(self, message, level="info", exc_info=None):
    """Replaces ConnectionHandler.log: logs only the place of an error, and ends its connection."""
    if level not in ("error", 40):
        return
    error = exc_info if isinstance(exc_info, tuple) else sys.exc_info()
    say(f"mitmproxy failed on a connection{place(error)}")
    for one in list(self.transports.values()):
        if one.handler:
            one.handler.cancel()


def place(error):
    """Returns the kind and place of an exception, without its message and values."""
    kind, _, trace = error
    if kind is None:
        return ""
    frames = [f"{os.path.basename(one.filename)}:{one.lineno}" for one in traceback.extract_tb(trace)]
    return f": {kind.__name__} at {', '.join(frames[-6:])}"


# Stream of our messages once the standard streams are closed.
_stream = None


def say(words):
    print(f"egress proxy: {words}", file=_stream or sys.stderr, flush=True)


def silence():
    """Lets only `say` write to the log from now on: libraries log and print data from peers."""
    global _stream
    if _stream is None:
        _stream = os.fdopen(os.dup(2), "w")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)


def patch():
    for module in (_http1, _http2):
        module.format_error = page
    for kind in {server.ConnectionHandler, *subclasses(server.ConnectionHandler)}:
        if "log" in vars(kind):
            kind.log = log


def subclasses(kind):
    return [found for child in kind.__subclasses__() for found in (child, *subclasses(child))]
