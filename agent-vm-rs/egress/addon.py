"""mitmproxy addon: the guest's only egress. It applies the rules, logs every attempt and inserts secrets.

TLS is intercepted only where the rules require it. Other connections pass through after a check of the server name.
Works with mitmproxy 8 (Debian 12) to 12 (nixpkgs).
"""

import asyncio
import os
import re
import sys

# mitmproxy loads a script by its path, not as part of a package.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from mitmproxy import ctx

import bodies
import bounds
import closing
import failure
import issuer
import refusal
import resolver
import secrets_broker
import tunnel
import websocket_frames
from audit import Audit
from peer import uid_of_peer
from requests_read import malformed, named_hosts
from rules import RulesFile, is_address, normal
from upstream import Upstream

# Largest body of a refused request, in bytes: it is read to its end so that the client sees the response.
LARGEST_REFUSED = 1 << 20
# Options that name the files of the machine.
PLACES = {
    "agent_vm_rules": "File of the rules.",
    "agent_vm_log": "File of the audit log.",
    "agent_vm_denied": "File of the number of denied attempts.",
}
# A valid Content-Length. int() alone would also accept digits of other scripts, and thousands of digits.
SHORT = re.compile("[0-9]{1,9}")
# Seconds between checks whether open connections are still allowed.
INTERVAL = 0.5


@closing.closed
class Egress:
    def __init__(self):
        self.rules = None
        self.audit = None
        # Flows that may still carry data: flow id → client id, host and port.
        self.open = {}
        self.connections = None
        self.upstream = None
        # Addresses, not public, that a name led to: address and port.
        self.listed = set()
        # Time of the last log entry about too many connections.
        self._full = float("-inf")

    def load(self, loader):
        self.connections = bounds.Connections(bounds.claim())
        for option, meaning in PLACES.items():
            loader.add_option(option, str, "", meaning)
        loader.add_option("agent_vm_log_bytes", int, 0, "Length of the log at which another one is begun.")

    def configure(self, updated):
        options = ctx.options
        if updated & PLACES.keys() and all(getattr(options, place) for place in PLACES):
            self.rules = RulesFile(options.agent_vm_rules)
            self.audit = Audit(options.agent_vm_log, options.agent_vm_denied, options.agent_vm_log_bytes)
            self.upstream = Upstream(self.rules)
            # Unreadable rules fail the start, not the first connection.
            self.rules.now()

    def running(self):
        loop = asyncio.get_running_loop()
        self.upstream.patch(loop)
        self.listed = resolver.guard(loop, self.rules, self.audit)
        for module in (bodies, bounds, failure, issuer, websocket_frames):
            module.patch()
        loop.call_later(INTERVAL, self.recheck, loop)

    def recheck(self, loop):
        """Ends the proxy if an open connection is no longer allowed: not all versions can end a single connection."""
        rules = self.rules.now()
        for _, host, port in set(self.open.values()):
            if not rules.decide(host, port).allowed:
                closing.end("an open connection is no longer allowed")
        closed = {address for address in self.listed if rules.why_closed(*address)}
        # Also idle connections: another request could use them.
        if closed and closed & {peer for handler in tunnel.handlers(ctx.master) for peer in peers(handler)}:
            closing.end("an open connection is no longer allowed")
        self.listed -= closed
        late = self.connections.late()
        for handler in tunnel.handlers(ctx.master) if late else ():
            if handler.client.id in late:
                self.connections.is_served(handler.client)
                loop.create_task(handler.on_timeout())
        loop.call_later(INTERVAL, self.recheck, loop)

    def client_connected(self, client):
        # From here on, a log message could contain text from a peer.
        failure.silence()
        # Every user of the host can reach a port on its loopback. Only the machine's tunnel is accepted.
        if uid_of_peer(client.peername, client.sockname) != self.rules.now().peer_uid:
            client.error = "not a connection of this machine"
        elif not self.connections.has_room():
            client.error = "too many connections"
            self._log_full("TCP")
        else:
            self.connections.wait_for(client)

    def server_connect(self, data):
        # The count includes this connection.
        if sum(len(handler.transports) for handler in tunnel.handlers(ctx.master)) > self.connections.most_transports:
            data.server.error = "too many connections"
            self._log_full("CONNECT", *data.server.address[:2])

    def _log_full(self, method, host="", port=0):
        """Logs at most once a second: the guest can try without limit."""
        now = asyncio.get_running_loop().time()
        if now - self._full >= 1:
            self._full = now
            self.audit.write(verdict="deny", reason="too many connections are open", method=method, host=host, port=port)

    async def http_connect(self, flow):
        # The client must now send a request or start a handshake through the tunnel.
        self.connections.wait_for(flow.client_conn)
        if self._admit(flow, "CONNECT", None):
            await self.upstream.choose(flow)
            self.audit.write(
                verdict="allow", reason="", method="CONNECT", host=flow.request.host, port=flow.request.port
            )

    def next_layer(self, nextlayer):
        address = nextlayer.context.server.address
        if nextlayer.layer is not None or not address or not tunnel.is_inside(nextlayer.context):
            return
        rules = self.rules.now()
        kind = tunnel.kind(nextlayer)
        context = nextlayer.context
        if kind == tunnel.RAW and not self._allows_raw(context.client, context.server, address):
            kind = tunnel.REFUSED
        if kind == tunnel.REFUSED:
            self._refuse_tunnel(context, "TCP", address[0], "neither TLS nor HTTP")
            nextlayer.layer = tunnel.refuse(context)
        elif kind == tunnel.TLS:
            nextlayer.layer = tunnel.Hello(context, closing.closed_call(lambda hello: self._on_hello(context, hello)))
        elif kind == tunnel.HTTP:
            nextlayer.layer = tunnel.http(context)
        elif kind == tunnel.RAW:
            nextlayer.layer = self._pass_on(context)

    def _on_hello(self, context, hello):
        host, port = normal(context.server.address[0]), context.server.address[1]
        if hello is None:
            self._refuse_tunnel(context, "TLS", host, "invalid TLS handshake")
            return tunnel.refuse(context)
        # Without this check, an allowed host that serves other names would give access to them. Without a server name, the server
        # chooses a name itself, unless the client asked for an address.
        if not is_address(host) if hello.sni is None else normal(hello.sni) != host:
            self._refuse_tunnel(context, "TLS", hello.sni, f"server name is not {host}")
            return tunnel.refuse(context)
        return tunnel.intercept(context) if self.rules.now().intercepts(host, port) else self._pass_on(context)

    def _pass_on(self, context):
        self.connections.is_served(context.client)
        return tunnel.pass_on(context)

    def _refuse_tunnel(self, context, method, host, reason):
        self.audit.write(verdict="deny", reason=reason, method=method, host=host, port=context.server.address[1])

    def client_disconnected(self, client):
        self.connections.is_gone(client)
        self.upstream.is_gone(client)
        websocket_frames.guarded.pop(client.id, None)
        self.open = {flow: one for flow, one in self.open.items() if one[0] != client.id}

    async def requestheaders(self, flow):
        request = flow.request
        self.connections.is_served(flow.client_conn)
        if not self._admit(flow, request.method, request.path):
            return
        secrets = self.rules.now().secrets_for(request.host, request.port) if request.scheme == "https" else ()
        if put := secrets_broker.put_in(request.headers, secrets) if secrets else ():
            # An uncompressed response can be searched for the value.
            request.headers["accept-encoding"] = "identity"
            flow.metadata["agent-vm-secrets"] = put
        await self.upstream.choose(flow)
        if hidden := self.upstream.prepare(flow):
            flow.metadata["agent-vm-secrets"] = hidden
        request.stream = True

    def responseheaders(self, flow):
        if "agent-vm-refused" in flow.metadata or self.upstream.replaces(flow) or flow.response.status_code == 101:
            return
        secrets = flow.metadata.get("agent-vm-secrets", ())
        redact = secrets_broker.Redactor(secrets) if secrets else bytes
        if secrets:
            secrets_broker.take_out_of(flow.response, secrets)
            secrets_broker.without_length(flow.request, flow.response, secrets)

        def stream(piece):
            flow.metadata["agent-vm-bytes"] = flow.metadata.get("agent-vm-bytes", 0) + len(piece)
            clean = redact(piece)
            # mitmproxy would send an empty piece as a chunk of length zero, which ends the body.
            return [clean] if clean else []

        flow.response.stream = stream

    def response(self, flow):
        # After an upgrade (101) the flow stays open.
        if flow.response.status_code != 101:
            self.open.pop(flow.id, None)
        if "agent-vm-refused" in flow.metadata:
            return
        host, port = flow.request.host, flow.request.port
        if flow.request.method == "CONNECT":
            self._connect_failed(flow)
            return
        raw = flow.response.status_code == 101 and not flow.websocket
        if raw and not self._allows_raw(flow.client_conn, flow.server_conn, (host, port)):
            self.audit.write(
                verdict="deny", reason="upgrade to a protocol other than WebSocket", method=flow.request.method, host=host, port=port
            )
            flow.metadata["agent-vm-refused"] = True
            flow.kill()
            return
        # Trailers have arrived by now, and the headers of a 101 have not been sent yet.
        secrets = flow.metadata.get("agent-vm-secrets", ())
        secrets_broker.take_out_of(flow.response, secrets)
        if flow.websocket and secrets:
            websocket_frames.guarded[flow.client_conn.id] = secrets
        self._log(flow, flow.response.status_code)

    def _connect_failed(self, flow):
        """Replaces mitmproxy's response to a CONNECT whose host cannot be reached."""
        message = flow.server_conn.error or ""
        reason = failure.cause(message)
        flow.response = refusal.unreachable(flow.request.host, flow.request.port, reason)
        # The resolver logs the names it refuses as denied.
        if not resolver.was_refused(message):
            self._log(flow, flow.response.status_code, reason)

    def _allows_raw(self, client, server, address):
        rules = self.rules.now()
        if self.upstream.carries(client, address):
            # The host's proxy connects, and does not say where to.
            return rules.allows_raw(*address[:2])
        return rules.allows_raw_at(address[0], server.peername[0] if server.peername else None, address[1])

    def websocket_message(self, flow):
        message = flow.websocket.messages[-1]
        # mitmproxy would keep all messages in memory.
        del flow.websocket.messages[:-1]
        secrets = flow.metadata.get("agent-vm-secrets", ())
        if secrets and not message.from_client:
            message.content = secrets_broker.body(message.content, secrets)

    def tcp_message(self, flow):
        del flow.messages[:-1]

    def error(self, flow):
        self.open.pop(flow.id, None)
        # The resolver logs the names it refuses as denied.
        if "agent-vm-refused" not in flow.metadata and not resolver.was_refused(flow.error.msg):
            self._log(flow, None, failure.cause(flow.error.msg))

    def _log(self, flow, status, reason=""):
        self.audit.write(
            verdict="allow",
            reason=reason,
            method=flow.request.method,
            host=flow.request.host,
            port=flow.request.port,
            path=flow.request.path,
            status=status,
            received=flow.metadata.get("agent-vm-bytes", 0),
        )

    def _admit(self, flow, method, path):
        """Returns whether the rules allow the request, and refuses it if not."""
        request = flow.request
        rules = self.rules.now()
        verdict = rules.decide(request.host, request.port)
        reason = verdict.reason
        if verdict.allowed and method != "CONNECT":
            # Like a wrong server name, another Host header would give access to other hosts.
            others = [one for one in named_hosts(request) if one != normal(request.host)]
            if others:
                reason = f"the request is for {others[0]}"
            elif malformed(request):
                reason = "the request is ambiguous"
        if not reason:
            self.open[flow.id] = (flow.client_conn.id, request.host, request.port)
            if method != "CONNECT" and not request.is_http2:
                # A server takes the host from a request's full URL instead of the Host header.
                request.authority = ""
            return True
        flow.metadata["agent-vm-refused"] = True
        self.audit.write(
            verdict="deny", reason=reason, method=method, host=request.host, port=request.port, path=path, status=403
        )
        length = request.headers.get("content-length", "0")
        if "transfer-encoding" in request.headers or not SHORT.fullmatch(length) or int(length) > LARGEST_REFUSED:
            flow.kill()
            return False
        flow.response = refusal.response(rules, request.host, request.port, reason)
        return False


def peers(handler):
    """Returns the addresses and ports of the servers that a client's handler is connected to."""
    return [one.peername[:2] for one in handler.transports if one is not handler.client and one.peername]


addons = [Egress()]
