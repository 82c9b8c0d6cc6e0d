"""A real mitmproxy with the addon, an HTTP server and an HTTPS server, for the tests in this directory."""

import base64
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parents[1]
MITMDUMP = os.environ.get("MITMDUMP") or shutil.which("mitmdump")
# RFC 6455, 1.3.
WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Port 0 is replaced by the HTTPS server's port.
SECRET = {"name": "TOKEN", "host": "localhost", "port": 0, "placeholder": "placeholder-1", "value": "s3cr3t-value"}


class Echo(BaseHTTPRequestHandler):
    """Responds with the request's path, headers and body."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if "Upgrade" in self.headers:
            self.upgrade(self.headers["Upgrade"])
            return
        length = int(self.headers.get("Content-Length", 0))
        body = json.dumps(
            {"path": self.path, "headers": dict(self.headers), "body": self.rfile.read(length).decode()}
        ).encode()
        self.server.seen.append(body.decode())
        self.send_response(200, self.headers.get("X-Api-Key"))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Echo", self.headers.get("X-Api-Key", ""))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def upgrade(self, protocol):
        """Responds to an upgrade request. Returns its API key in a header and in the data (as a WebSocket message, or plain)."""
        key = self.headers.get("X-Api-Key", "")
        self.server.seen.append(key)
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", protocol)
        self.send_header("X-Echo", key)
        if protocol == "websocket":
            accept = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + WEBSOCKET).encode()).digest()
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(accept).decode())
        self.end_headers()
        data = f"echo {key}".encode()
        self.wfile.write(bytes([0x81, len(data)]) + data if protocol == "websocket" else data)
        if protocol == "held":
            self.rfile.read(1)
        self.close_connection = True

    def log_message(self, *_):
        pass


def serve(context=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.seen = []
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def make_ca(directory):
    """Creates a certificate authority, and a certificate for localhost signed by it."""
    openssl = lambda *args: subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)
    openssl(*"req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=test".split(), "-addext", "keyUsage=keyCertSign")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=localhost")
    Path(directory, "ext").write_text("subjectAltName=DNS:localhost,DNS:evil.test,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    openssl(*"x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -extfile ext".split())


@unittest.skipUnless(MITMDUMP, "no mitmproxy")
class Site(unittest.TestCase):
    """Base class for tests: a proxy, an HTTP server and an HTTPS server."""

    script = HERE / "addon.py"

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.directory.cleanup)
        cls.place = Path(cls.directory.name)
        for name in ["rules", "log", "ca"]:
            (cls.place / name).mkdir()
        make_ca(cls.place)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cls.place / "leaf.pem", cls.place / "leaf.key")
        cls.plain, cls.tls = serve(), serve(context)
        cls.plain_port, cls.tls_port = cls.plain.server_address[1], cls.tls.server_address[1]
        cls.set_rules()
        with socket.create_server(("127.0.0.1", 0)) as free:
            cls.port = free.getsockname()[1]
        cls.output = open(cls.place / "mitmdump.log", "wb")
        cls.addClassCleanup(cls.output.close)
        options = {
            "listen_host": "127.0.0.1",
            "listen_port": cls.port,
            "confdir": cls.place / "ca",
            "agent_vm_rules": cls.place / "rules" / "rules.json",
            "agent_vm_log": cls.place / "log" / "egress.jsonl",
            "agent_vm_denied": cls.place / "log" / "denied",
            "agent_vm_log_bytes": 16 << 20,
            "ssl_verify_upstream_trusted_ca": cls.place / "ca.pem",
        }
        sets = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
        cls.proxy = subprocess.Popen(
            [MITMDUMP, "--quiet", *sets, "-s", cls.script], stdout=cls.output, stderr=subprocess.STDOUT
        )
        cls.addClassCleanup(cls.proxy.wait)
        cls.addClassCleanup(cls.proxy.terminate)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and cls.proxy.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", cls.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError((cls.place / "mitmdump.log").read_text())

    @classmethod
    def set_rules(cls, mode="allowlist", allow=None, secrets=(), peer_uid=None, deny=(), upstream=None):
        if allow is None:
            allow = [("127.0.0.1", cls.plain_port), ("localhost", cls.tls_port), ("localhost", cls.plain_port)]
        entries = lambda listed: [{"host": host, "port": port} for host, port in listed]
        rules = {
            "version": 2,
            "nothing": mode == "none",
            "everything": mode == "open",
            "intercept_all": mode == "monitor",
            "not_listed": "not on the allow list",
            "machine": "app-main",
            "peer_uid": os.getuid() if peer_uid is None else peer_uid,
            "allow": entries(allow),
            "deny": entries(deny),
            "upstream": upstream,
            "secrets": [{**secret, "port": secret["port"] or cls.tls_port} for secret in secrets],
        }
        new = cls.place / "rules" / "new"
        new.write_text(json.dumps(rules))
        new.rename(cls.place / "rules" / "rules.json")

    def setUp(self):
        self.set_rules()
        self.plain.seen.clear()
        self.tls.seen.clear()
        (self.place / "log" / "egress.jsonl").unlink(missing_ok=True)

    def log(self, lines=1):
        """Waits until the log has this many lines, and returns them: the last line is written after its response."""
        path = self.place / "log" / "egress.jsonl"
        deadline = time.monotonic() + 10
        while True:
            found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
            if len(found) >= lines or time.monotonic() > deadline:
                return found
            time.sleep(0.01)

    def denied(self):
        path = self.place / "log" / "denied"
        return int(path.read_text()) if path.exists() else 0

    def settled(self, before, lines):
        """Waits for the log lines of the last request, so that they do not appear in a later check."""
        if len(self.log(before + lines)) < before + lines:
            raise AssertionError(f"the log lacks lines: {self.log(0)}")

    def get(self, url, headers=None, body=None):
        before = len(self.log(0))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST" if body else "GET", url, body=body, headers=headers or {})
        answer = connection.getresponse()
        # mitmproxy's own error pages are not always valid UTF-8.
        text = answer.read().decode(errors="replace")
        connection.close()
        self.settled(before, 1)
        return answer, text

    def tunnel(self, host, port, sni=None, ca=None, path="/", headers=None):
        """Sends a request through CONNECT and TLS; returns status, headers, text and the certificate's issuer."""
        before = len(self.log(0))
        raw = socket.create_connection(("127.0.0.1", self.port), 10)
        try:
            raw.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            answer = http.client.HTTPResponse(raw, method="CONNECT")
            answer.begin()
            self.reason = answer.reason
            self.settled(before, 1)
            if answer.status != 200:
                return answer.status, answer.headers, answer.read().decode(), None
            context = ssl.create_default_context(cafile=ca or self.place / "ca.pem")
            # The default of Python 3.13.
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            context.check_hostname = sni in (None, host)
            raw = secured = context.wrap_socket(raw, server_hostname=sni or host)
            lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
            secured.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{lines}Connection: close\r\n\r\n".encode())
            inner = http.client.HTTPResponse(secured)
            inner.begin()
            self.reason = inner.reason
            issuer = dict(part[0] for part in secured.getpeercert()["issuer"])["commonName"]
            text = inner.read().decode()
            # With the proxy's certificate, TLS was intercepted, and the request is logged too.
            self.settled(before, 1 if issuer == "test" else 2)
            return inner.status, inner.headers, text, issuer
        finally:
            raw.close()

    @property
    def own_ca(self):
        return self.place / "ca" / "mitmproxy-ca-cert.pem"

    def raw_tunnel(self, port, host="localhost"):
        """Returns a new connection through CONNECT, without any data yet."""
        raw = socket.create_connection(("127.0.0.1", self.port), 10)
        self.addCleanup(raw.close)
        raw.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(raw, method="CONNECT")
        answer.begin()
        self.assertEqual(answer.status, 200)
        return raw
