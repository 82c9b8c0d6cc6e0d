"""mitmproxy addon: the guest's only way out. Decides by the rules, logs, and puts secrets in.

TLS is looked into only where the rules say so; elsewhere the connection is passed through and its server name checked.
Works with mitmproxy 8 (Debian 12) to 12 (nixpkgs).
"""

import asyncio
import os
import re
import socket
import sys

# mitmproxy loads a script by its path, not as a part of a package.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from mitmproxy import ctx, http

import closing
import issuer
import secrets_broker
import tunnel
from audit import Audit
from peer import uid_of_peer
from rules import RulesFile, host_of, is_address, is_public, normal

# Of a request that is refused: it is read to its end so that the client sees the answer.
LARGEST_REFUSED = 1 << 20
# Why a name is refused that resolves to such a one.
OWN_ADDRESS = "is an address of the host or its network"
# What some servers take for the end of a line, and others do not.
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# Between two looks at whether open connections are still allowed, seconds.
INTERVAL = 0.5


@closing.closed
class Egress:
    def __init__(self):
        self.rules = None
        self.audit = None
        # Flow's id → client's id, host and port, of whatever may still carry something.
        self.open = {}

    def load(self, loader):
        loader.add_option("agent_vm_dir", str, "", "Directory with rules.json, for the log and the count.")

    def configure(self, updated):
        if "agent_vm_dir" in updated and ctx.options.agent_vm_dir:
            place = ctx.options.agent_vm_dir
            self.rules = RulesFile(os.path.join(place, "rules", "rules.json"))
            self.audit = Audit(os.path.join(place, "log", "egress.jsonl"), os.path.join(place, "log", "denied"))
            # Rules that cannot be read are found now, not by the first connection.
            self.rules.now()

    def running(self):
        loop = asyncio.get_running_loop()
        guard_resolver(loop, self.rules, self.audit)
        issuer.amend()
        loop.call_later(INTERVAL, self.look_again, loop)

    def look_again(self, loop):
        """Rules may have changed: what they allow no more ends. One connection cannot be ended alone in all versions."""
        rules = self.rules.now()
        for _, host, port in set(self.open.values()):
            if not rules.decide(host, port).allowed:
                closing.end(f"{host}:{port} is allowed no more")
        loop.call_later(INTERVAL, self.look_again, loop)

    def client_connected(self, client):
        # Anybody on this host reaches a port on its loopback; only the tunnel to the guest is let in.
        if uid_of_peer(client.peername, client.sockname) != self.rules.now().peer_uid:
            client.error = "not the machine's own connection"

    def http_connect(self, flow):
        if self._admit(flow, "CONNECT", None):
            self.audit.write(
                verdict="allow", reason="", method="CONNECT", host=flow.request.host, port=flow.request.port
            )

    def next_layer(self, nextlayer):
        address = nextlayer.context.server.address
        if nextlayer.layer is not None or not address or not tunnel.is_inside(nextlayer.context):
            return
        rules = self.rules.now()
        kind = tunnel.kind(nextlayer)
        if kind == tunnel.RAW and not rules.allows_raw(*address):
            kind = tunnel.REFUSED
        context = nextlayer.context
        if kind == tunnel.REFUSED:
            self._refuse_tunnel(context, "TCP", address[0], "neither TLS nor HTTP")
            nextlayer.layer = tunnel.refuse(context)
        elif kind == tunnel.TLS:
            nextlayer.layer = tunnel.Hello(context, closing.closed_call(lambda hello: self._on_hello(context, hello)))
        elif kind == tunnel.HTTP:
            nextlayer.layer = tunnel.http(context)
        elif kind == tunnel.RAW:
            nextlayer.layer = tunnel.pass_on(context)

    def _on_hello(self, context, hello):
        host = normal(context.server.address[0])
        if hello is None:
            self._refuse_tunnel(context, "TLS", host, "no handshake that can be read")
            return tunnel.refuse(context)
        # A permitted host that serves others too would be a way to them. Without a name a server chooses one of its own; an
        # address has none.
        if not is_address(host) if hello.sni is None else normal(hello.sni) != host:
            self._refuse_tunnel(context, "TLS", hello.sni, f"server name is not {host}")
            return tunnel.refuse(context)
        return tunnel.look_into(context) if self.rules.now().intercepts(host) else tunnel.pass_on(context)

    def _refuse_tunnel(self, context, method, host, reason):
        self.audit.write(verdict="deny", reason=reason, method=method, host=host, port=context.server.address[1])

    def client_disconnected(self, client):
        self.open = {flow: one for flow, one in self.open.items() if one[0] != client.id}

    def requestheaders(self, flow):
        request = flow.request
        if not self._admit(flow, request.method, request.path):
            return
        secrets = self.rules.now().secrets_for(request.host) if request.scheme == "https" else ()
        if secrets and secrets_broker.put_in(request.headers, secrets):
            # What comes back can then be searched for the value.
            request.headers["accept-encoding"] = "identity"
            flow.metadata["agent-vm-secrets"] = secrets
        request.stream = True

    def responseheaders(self, flow):
        if "agent-vm-refused" in flow.metadata or flow.response.status_code == 101:
            return
        secrets = flow.metadata.get("agent-vm-secrets", ())
        redact = secrets_broker.Redactor(secrets) if secrets else bytes
        if secrets:
            secrets_broker.take_out_of(flow.response, secrets)
            # A value and its placeholder need not be of one length.
            if flow.response.headers.pop("content-length", None) is not None and flow.response.http_version != "HTTP/2.0":
                flow.response.headers["transfer-encoding"] = "chunked"

        def stream(piece):
            flow.metadata["agent-vm-bytes"] = flow.metadata.get("agent-vm-bytes", 0) + len(piece)
            return redact(piece)

        flow.response.stream = stream

    def response(self, flow):
        # After an upgrade it goes on.
        if flow.response.status_code != 101:
            self.open.pop(flow.id, None)
        if "agent-vm-refused" in flow.metadata:
            return
        host, port = flow.request.host, flow.request.port
        if flow.response.status_code == 101 and not flow.websocket and not self.rules.now().allows_raw(host, port):
            self.audit.write(
                verdict="deny", reason="upgrade to what is not WebSocket", method=flow.request.method, host=host, port=port
            )
            flow.metadata["agent-vm-refused"] = True
            flow.kill()
            return
        # Trailers are there by now, and of a 101 the headers are not sent yet.
        secrets_broker.take_out_of(flow.response, flow.metadata.get("agent-vm-secrets", ()))
        self._log(flow, flow.response.status_code)

    def websocket_message(self, flow):
        message = flow.websocket.messages[-1]
        # mitmproxy would keep all of them.
        del flow.websocket.messages[:-1]
        secrets = flow.metadata.get("agent-vm-secrets", ())
        if secrets and not message.from_client:
            message.content = secrets_broker.body(message.content, secrets)

    def tcp_message(self, flow):
        del flow.messages[:-1]

    def error(self, flow):
        self.open.pop(flow.id, None)
        # What the resolver refuses is logged as denied there.
        if "agent-vm-refused" not in flow.metadata and not flow.error.msg.endswith(OWN_ADDRESS):
            self._log(flow, None, flow.error.msg)

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
        """Whether the rules allow the request; it is refused if not."""
        request = flow.request
        rules = self.rules.now()
        verdict = rules.decide(request.host, request.port)
        reason = verdict.reason
        if verdict.allowed and method != "CONNECT":
            # The same way to other hosts as with the server name.
            others = [one for one in named_hosts(request) if one != normal(request.host)]
            if others:
                reason = f"the request is for {others[0]}"
            elif malformed(request):
                reason = "the request can be read in more than one way"
        if not reason:
            self.open[flow.id] = (flow.client_conn.id, request.host, request.port)
            if method != "CONNECT" and not request.is_http2:
                # Whoever reads a whole URL in a request takes the host from there.
                request.authority = ""
            return True
        flow.metadata["agent-vm-refused"] = True
        self.audit.write(
            verdict="deny", reason=reason, method=method, host=request.host, port=request.port, path=path, status=403
        )
        length = request.headers.get("content-length", "0")
        if "transfer-encoding" in request.headers or not length.isdigit() or int(length) > LARGEST_REFUSED:
            flow.kill()
            return False
        flow.response = http.Response.make(
            403,
            f"agent-vm: {request.host}:{request.port} is refused ({reason}). On the host:"
            f" agent-vm egress allow --branch {rules.machine} {normal(request.host)}:{request.port}\n",
            {"content-type": "text/plain; charset=utf-8", "connection": "close"},
        )
        return False


def named_hosts(request):
    """Every host that a request names, by whatever the one who reads it goes."""
    named = request.headers.get_all("host")
    if request.authority:
        named.append(request.authority)
    if len(request.headers.get_all("host")) > 1:
        return [", ".join(named)]
    return [host_of(one) for one in named]


def malformed(request):
    """Whether servers may see another end of a line, or of the body, than mitmproxy does."""
    parts = [request.data.method, request.data.path, *(part for field in request.headers.fields for part in field)]
    lengths = request.headers.get_all("content-length")
    return any(CONTROL.search(part) for part in parts) or any(not re.fullmatch("[0-9]+", one) for one in lengths)


def guard_resolver(loop, rules, audit):
    """Have the loop resolve names to public addresses only, unless the rules name the host itself."""
    resolve = loop.getaddrinfo

    @closing.closed_call
    async def guarded(host, port, **options):
        found = await resolve(host, port, **options)
        name = host.decode() if isinstance(host, bytes) else host
        if name is None or rules.now().is_named(name, None):
            return found
        public = [one for one in found if is_public(one[4][0])]
        if not public:
            audit.write(
                verdict="deny",
                reason="an address of the host or its network",
                method="RESOLVE",
                host=name,
                port=port if isinstance(port, int) else 0,
            )
            raise socket.gaierror(socket.EAI_FAIL, f"{name} {OWN_ADDRESS}")
        return public

    loop.getaddrinfo = guarded


addons = [Egress()]
