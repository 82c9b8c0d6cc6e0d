"""The host's own proxy: where the rules have one, connections go through it.

It is chained below mitmproxy, where a connection is opened, so that the rules, TLS and secrets do not depend on it. A tunnel of
the guest, and so all TLS, is a CONNECT there. A request without a tunnel is sent to the proxy itself, as most proxies permit
CONNECT to ports of TLS only. The guest learns neither the proxy's address nor its password, and no refused name reaches it.
"""

import asyncio
import contextvars
import re
import socket
import ssl

import failure
import refusal
from mitmproxy import ctx
from mitmproxy.proxy import server

from rules import Secret, is_address, normal, why_closed, why_closed_name

# Seconds for the name of a destination: a host behind a proxy may have no resolver that answers.
LOOKUP = 2
# Seconds until the proxy has opened a tunnel.
OPENING = 30
UNREACHABLE = "the host's proxy cannot be reached"
REFUSED = "the host's proxy refused the connection"
STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
# RFC 9110, 11.7: they are between us and the host's proxy. Max-Forwards (7.6.2) makes a proxy itself repeat a request.
HOP = ("proxy-authorization", "proxy-connection", "upgrade", "max-forwards")
# RFC 1123, and what names have in practice. Other names could change our request.
NAME = re.compile("[A-Za-z0-9._-]{1,253}")


class Upstream:
    """Decides which connections go through the host's proxy, and opens them."""

    def __init__(self, rules):
        self._rules = rules
        self._resolve = None
        # Client id, host and port → whether the host's proxy opens a tunnel; None for a connection without it.
        self._through = {}

    def patch(self, loop):
        """Opens mitmproxy's connections. `loop` has its own resolver still, without the guard."""
        self._resolve = loop.getaddrinfo
        client = contextvars.ContextVar("client")
        opened, plain = server.ConnectionHandler.open_connection, asyncio.open_connection
        upstream = self

        async def open_connection(self, command):
            client.set(self.client.id)
            await opened(self, command)

        async def connect(host, port, **options):
            proxy = upstream._rules.now().upstream
            is_tunnel = upstream._through.get((client.get(None), normal(host), port))
            if proxy is None or is_tunnel is None:
                return await plain(host, port, **options)
            return await upstream._open(proxy, normal(host), port, is_tunnel)

        for kind in {server.ConnectionHandler, *failure.subclasses(server.ConnectionHandler)}:
            if "open_connection" in vars(kind):
                kind.open_connection = open_connection
        server.asyncio = Instead(asyncio, open_connection=connect)

    async def choose(self, flow):
        """Decides how the connection of an admitted request is opened."""
        request = flow.request
        key = flow.client_conn.id, normal(request.host), request.port
        is_tunnel = request.method == "CONNECT" or request.scheme == "https"
        if key not in self._through:
            self._through[key] = is_tunnel if await self._leads_to(*key[1:]) else None
        elif is_tunnel and self._through[key] is not None:
            # Otherwise the guest would get a connection to the host's proxy itself.
            self._through[key] = True

    def carries(self, client, address):
        """Returns whether a client's connection to an address goes through the host's proxy."""
        return self._through.get((client.id, normal(address[0]), address[1])) is not None

    def is_gone(self, client):
        self._through = {key: is_tunnel for key, is_tunnel in self._through.items() if key[0] != client.id}

    def _is_asked(self, flow):
        """Returns whether the host's proxy itself gets the request."""
        return self._through.get((flow.client_conn.id, normal(flow.request.host), flow.request.port)) is False

    def prepare(self, flow):
        """Makes a request one for a proxy, if it is sent to the host's. Returns what the answer must not repeat."""
        request, proxy = flow.request, self._rules.now().upstream
        if proxy is None or not self._is_asked(flow):
            return ()
        for name in HOP:
            request.headers.pop(name, None)
        # Not the Host header, whose port the rules have not seen.
        request.authority = target(normal(request.host), request.port)
        authorization = proxy.authorization()
        if not authorization:
            return ()
        request.headers["proxy-authorization"] = authorization
        value = authorization.removeprefix("Basic ")
        # As long as the value, so that the answer keeps its length.
        return (Secret("", proxy.host, proxy.port, "*" * len(value), value),)

    def replaces(self, flow):
        """Replaces an answer of the host's proxy about its password, or about another protocol. Returns whether it did."""
        status = flow.response.status_code
        if status not in (101, 407) or not self._is_asked(flow):
            return False
        flow.response = refusal.unreachable(flow.request.host, flow.request.port, f"{REFUSED} ({status})")
        text, flow.response.content = flow.response.content, b""
        flow.response.headers["content-length"] = str(len(text))
        # The last piece is empty.
        flow.response.stream = lambda piece: [] if piece else [text]
        return True

    async def _leads_to(self, host, port):
        rules = self._rules.now()
        proxy = rules.upstream
        if proxy is None or proxy.leaves_out(host, port) or why_closed_name(host):
            return False
        if is_address(host):
            return True
        if not NAME.fullmatch(host):
            return False
        try:
            found = await asyncio.wait_for(self._resolve(host, port, type=socket.SOCK_STREAM), LOOKUP)
        except (OSError, ValueError, OverflowError, asyncio.TimeoutError):
            # Only the host's proxy can look it up, which may know names of the host's network. These must be on the list.
            return rules.is_listed(host, port)
        # The guard refuses such an address, or connects to it if the list names it.
        return not any(why_closed(one[4][0]) for one in found)

    async def _open(self, proxy, host, port, is_tunnel):
        try:
            reader, writer = await asyncio.wait_for(self._connect(proxy), OPENING)
        except (OSError, ValueError, asyncio.TimeoutError):
            raise OSError(failure.ours(UNREACHABLE)) from None
        if not is_tunnel:
            return reader, writer
        try:
            await asyncio.wait_for(begin_tunnel(proxy, target(host, port), reader, writer), OPENING)
        except BaseException as error:
            writer.close()
            if isinstance(error, (EOFError, asyncio.LimitOverrunError, asyncio.TimeoutError, ConnectionError)):
                raise OSError(failure.ours(REFUSED)) from None
            raise
        return reader, writer

    async def _connect(self, proxy):
        found = await self._resolve(proxy.host, proxy.port, type=socket.SOCK_STREAM)
        secured = {"ssl": context(), "server_hostname": proxy.host} if proxy.secure else {}
        for number, one in enumerate(found, 1):
            try:
                return await asyncio.open_connection(*one[4][:2], **secured)
            except OSError:
                if number == len(found):
                    raise


async def begin_tunnel(proxy, destination, reader, writer):
    authorization = proxy.authorization()
    lines = f"Proxy-Authorization: {authorization}\r\n" if authorization else ""
    writer.write(f"CONNECT {destination} HTTP/1.1\r\nHost: {destination}\r\n{lines}\r\n".encode())
    await writer.drain()
    # The stream's limit bounds it.
    head = await reader.readuntil(b"\r\n\r\n")
    status = STATUS.match(head)
    if not status or not 200 <= int(status[1]) < 300:
        raise OSError(failure.ours(f"{REFUSED} ({int(status[1])})" if status else REFUSED))


def context():
    return ssl.create_default_context(cafile=ctx.options.ssl_verify_upstream_trusted_ca or None)


def target(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Instead:
    """A module with other values for some names."""

    def __init__(self, module, **others):
        self._module = module
        vars(self).update(others)

    def __getattr__(self, name):
        return getattr(self._module, name)
