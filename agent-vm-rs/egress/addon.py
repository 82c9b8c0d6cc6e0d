"""mitmproxy addon: the guest's only way out. Decides by the rules, logs, and puts secrets in.

TLS is looked into only where the rules say so; elsewhere the connection is passed through and its server name checked.
Works with mitmproxy 8 (Debian 12) to 12 (nixpkgs).
"""

import asyncio
import os
import socket
import sys

# mitmproxy loads a script by its path, not as a part of a package.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from mitmproxy import ctx, http
from mitmproxy.proxy import layers

import issuer
import secrets_broker
from audit import Audit
from peer import uid_of_peer
from rules import RulesFile, is_public, normal

# Of a request that is refused: it is read to its end so that the client sees the answer.
LARGEST_REFUSED = 1 << 20


class Egress:
    def __init__(self):
        self.rules = None
        self.audit = None
        self.refused_hellos = set()

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
        issuer.amend()
        guard_resolver(asyncio.get_running_loop(), self.rules)

    def client_connected(self, client):
        # Anybody on this host reaches a port on its loopback; only the tunnel to the guest is let in.
        if uid_of_peer(client.peername, client.sockname) != self.rules.now().peer_uid:
            client.error = "not the machine's own connection"

    def http_connect(self, flow):
        self._admit(flow, "CONNECT", None)
        if not flow.response:
            self.audit.write(
                verdict="allow", reason="", method="CONNECT", host=flow.request.host, port=flow.request.port
            )

    def tls_clienthello(self, data):
        address = data.context.server.address
        if not address or self._is_to_proxy(data):
            return
        host, sni = normal(address[0]), data.client_hello.sni
        if sni is not None and normal(sni) != host:
            # A permitted host that serves others too would be a way to them.
            self.refused_hellos.add(data.context.client.id)
            self.audit.write(
                verdict="deny", reason=f"server name is not {host}", method="TLS", host=sni, port=address[1]
            )
        elif not self.rules.now().intercepts(host):
            data.ignore_connection = True

    def tls_start_client(self, data):
        if data.context.client.id in self.refused_hellos:
            # Without it the handshake fails.
            data.ssl_conn = None

    def client_disconnected(self, client):
        self.refused_hellos.discard(client.id)

    def requestheaders(self, flow):
        request = flow.request
        rules = self.rules.now()
        self._admit(flow, request.method, request.path)
        if flow.response or flow.error:
            return
        secrets = rules.secrets_for(request.host) if request.scheme == "https" else ()
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
            secrets_broker.take_out(flow.response.headers, secrets)
            # A value and its placeholder need not be of one length.
            if flow.response.headers.pop("content-length", None) is not None and flow.response.http_version != "HTTP/2.0":
                flow.response.headers["transfer-encoding"] = "chunked"

        def stream(piece):
            flow.metadata["agent-vm-bytes"] = flow.metadata.get("agent-vm-bytes", 0) + len(piece)
            return redact(piece)

        flow.response.stream = stream

    def response(self, flow):
        if "agent-vm-refused" not in flow.metadata:
            self._log(flow, flow.response.status_code)

    def error(self, flow):
        if "agent-vm-refused" not in flow.metadata and not isinstance(flow, str):
            self._log(flow, None, flow.error.msg if flow.error else "")

    def _is_to_proxy(self, data):
        """A handshake with the proxy itself, before any request."""
        return not any(isinstance(layer, layers.HttpLayer) for layer in data.context.layers)

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
        """Refuse the request unless the rules allow it."""
        request = flow.request
        rules = self.rules.now()
        verdict = rules.decide(request.host, request.port)
        reason = verdict.reason
        named = request.host_header
        if verdict.allowed and method != "CONNECT" and named and host_of(named) != normal(request.host):
            # The same way to other hosts as with the server name.
            reason = f"the request is for {host_of(named)}"
        if not reason:
            return
        flow.metadata["agent-vm-refused"] = True
        self.audit.write(
            verdict="deny", reason=reason, method=method, host=request.host, port=request.port, path=path, status=403
        )
        length = request.headers.get("content-length", "0")
        if "transfer-encoding" in request.headers or not length.isdigit() or int(length) > LARGEST_REFUSED:
            flow.kill()
            return
        flow.response = http.Response.make(
            403,
            f"agent-vm: {request.host}:{request.port} is refused ({reason}). On the host:"
            f" agent-vm egress allow --branch {rules.machine} {normal(request.host)}:{request.port}\n",
            {"content-type": "text/plain; charset=utf-8", "connection": "close"},
        )


def host_of(header):
    """The host of a Host header, without its port."""
    if header.startswith("["):
        return normal(header.partition("]")[0])
    return normal(header.partition(":")[0])


def guard_resolver(loop, rules):
    """Have the loop resolve names to public addresses only, unless the rules name the host itself."""
    resolve = loop.getaddrinfo

    async def guarded(host, port, **options):
        found = await resolve(host, port, **options)
        name = host.decode() if isinstance(host, bytes) else host
        if name is None or rules.now().is_named(name, None):
            return found
        public = [one for one in found if is_public(one[4][0])]
        if not public:
            raise socket.gaierror(socket.EAI_FAIL, f"{name} is an address of the host or its network")
        return public

    loop.getaddrinfo = guarded


addons = [Egress()]
