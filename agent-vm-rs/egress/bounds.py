"""What the proxy takes at most: connections, bytes that are not understood yet, and time until they are.

mitmproxy has no bounds of its own for these. A guest that goes beyond them loses its connection, and no other machine any.
"""

import os
import resource
import time

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import _events, _http1
from mitmproxy.proxy.layers.http._base import ReceiveHttp

import failure

# Of the guest; and to servers, as one connection of the guest may lead to several.
CLIENTS, SERVERS = 512, 1024
# Of the process's descriptors, for files and for connections that are being refused.
SPARE = 256
DESCRIPTORS = CLIENTS + SERVERS + SPARE
# Bytes of a head, of a chunk's header, or of requests that wait for their turn.
PENDING = 256 << 10
# Of a ClientHello, which with keys against quantum computers takes about 2 KiB.
HELLO = 64 << 10
# Seconds until a connection has said what it wants, or a head has come as a whole. Emulated guests are slow.
PATIENCE = 60
# Of the host's processors the proxy takes what others leave (nice(2)).
NICE = 5


class Connections:
    """Those that are open, and by when each has to have said what it wants."""

    def __init__(self, descriptors):
        self._clients = {}
        # Fewer where the host grants fewer descriptors than are wanted.
        third = max(8, (descriptors - SPARE) // 3)
        self._most = min(CLIENTS, third)
        self.most_transports = min(CLIENTS + SERVERS, 3 * third)

    def has_room(self):
        return len(self._clients) < self._most

    def wait_for(self, client):
        """It has so long from now on."""
        self._clients[client.id] = time.monotonic() + PATIENCE

    def is_served(self, client):
        """It has said what it wants."""
        if client.id in self._clients:
            self._clients[client.id] = None

    def is_gone(self, client):
        self._clients.pop(client.id, None)

    def late(self):
        now = time.monotonic()
        return {client for client, end in self._clients.items() if end is not None and end < now}


def claim():
    """Takes the descriptors it needs, as far as the host grants them; gives how many there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    try:
        os.nice(NICE)
    except OSError:
        # Then it is as important as others.
        pass
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def amend():
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
    """Whether a head comes a little at a time; one that does not come at all is ended by its connection's time."""
    if connection.state != connection.read_headers or not len(connection.buf):
        connection.agent_vm_began = None
        return False
    began = getattr(connection, "agent_vm_began", None)
    connection.agent_vm_began = began = began or time.monotonic()
    return time.monotonic() - began > PATIENCE


def give_up(connection):
    words = failure.ours("a head is too long, or takes too long")
    is_server = isinstance(connection, _http1.Http1Server)
    connection.buf = type(connection.buf)()
    if is_server and connection.state == connection.read_headers:
        yield commands.SendData(connection.conn, _http1.make_error_response(431, words))
    yield commands.CloseConnection(connection.conn)
    if connection.stream_id is not None and not (is_server and connection.state == connection.read_headers):
        yield ReceiveHttp(connection.ReceiveProtocolError(connection.stream_id, words, code(is_server)))
    connection.state = connection.done


def code(is_server):
    """As mitmproxy's versions have it."""
    codes = getattr(_events, "ErrorCode", None)
    if codes is None:
        return 400 if is_server else 502
    return codes.GENERIC_CLIENT_ERROR if is_server else codes.GENERIC_SERVER_ERROR
