"""Limits of the proxy: connections, bytes that are not parsed yet, and time until they are.

mitmproxy has no such limits. A guest that exceeds them loses its connection; other machines are not affected.
"""

import os
import resource
import time

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import _events, _http1
from mitmproxy.proxy.layers.http._base import ReceiveHttp

import failure

# Maximal number of connections from the guest, and to servers: one from the guest may need several.
CLIENTS, SERVERS = 512, 1024
# File descriptors for files, and for connections that are being refused.
SPARE = 256
DESCRIPTORS = CLIENTS + SERVERS + SPARE
# Bytes of a head, of a chunk's header, or of pipelined requests.
PENDING = 256 << 10
# Bytes of a ClientHello; one with post-quantum keys is about 2 KiB long.
HELLO = 64 << 10
# Seconds until a connection has sent a request or handshake, or a head is complete. Emulated guests are slow.
TIMEOUT = 60
# The proxy's niceness (nice(2)): other programs of the host have priority.
NICE = 5


class Connections:
    """Open connections, and the time by which each must have sent a request or handshake."""

    def __init__(self, descriptors):
        self._clients = {}
        # Use fewer if the host grants fewer descriptors.
        third = max(8, (descriptors - SPARE) // 3)
        self._most = min(CLIENTS, third)
        self.most_transports = min(CLIENTS + SERVERS, 3 * third)

    def has_room(self):
        return len(self._clients) < self._most

    def wait_for(self, client):
        """Starts the time limit of a connection."""
        self._clients[client.id] = time.monotonic() + TIMEOUT

    def is_served(self, client):
        """Ends the time limit of a connection, which has sent its request or handshake."""
        if client.id in self._clients:
            self._clients[client.id] = None

    def is_gone(self, client):
        self._clients.pop(client.id, None)

    def late(self):
        now = time.monotonic()
        return {client for client, end in self._clients.items() if end is not None and end < now}


def claim():
    """Raises the limit of file descriptors as far as the host allows, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    try:
        os.nice(NICE)
    except OSError:
        # The proxy then runs at normal priority.
        pass
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def patch():
    for kind in (_http1.Http1Server, _http1.Http1Client):
        kind._handle_event = bounded(kind._handle_event)


def bounded(handle):
    def _handle_event(self, event):
        yield from handle(self, event)
        if isinstance(event, events.DataReceived) and self.state != self.done and (has_too_much(self) or is_late(self)):
            yield from give_up(self)

    return _handle_event


def has_too_much(connection):
    return len(connection.buf) > PENDING


def is_late(connection):
    """Returns whether an incomplete head has taken too long. Without any bytes, the connection's own limit applies."""
    if connection.state != connection.read_headers or not len(connection.buf):
        connection.agent_vm_began = None
        return False
    began = getattr(connection, "agent_vm_began", None)
    connection.agent_vm_began = began = began or time.monotonic()
    return time.monotonic() - began > TIMEOUT


def give_up(connection):
    reason = failure.ours("a head is too long or too slow")
    is_server = isinstance(connection, _http1.Http1Server)
    connection.buf = type(connection.buf)()
    if is_server and connection.state == connection.read_headers:
        yield commands.SendData(connection.conn, _http1.make_error_response(431, reason))
    yield commands.CloseConnection(connection.conn)
    if connection.stream_id is not None and not (is_server and connection.state == connection.read_headers):
        yield ReceiveHttp(connection.ReceiveProtocolError(connection.stream_id, reason, code(is_server)))
    connection.state = connection.done


def code(is_server):
    """Returns the error code in the form of this version of mitmproxy."""
    codes = getattr(_events, "ErrorCode", None)
    if codes is None:
        return 400 if is_server else 502
    return codes.GENERIC_CLIENT_ERROR if is_server else codes.GENERIC_SERVER_ERROR
