"""The gate's configuration in a real nginx, before a stand-in for mcp-proxy: python3 lib/guest/tests/nginx_gate.py

Not found by `unittest discover`: it needs nginx and openssl on PATH.
"""

import http.client
import http.server
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
LAUNCHER = HERE.parent / "agent_mcp"

TOKEN = "0123456789abcdef" * 4
BEARER = f"Bearer {TOKEN}"
PATIENCE = 20


class Inner(http.server.BaseHTTPRequestHandler):
    """Stands in for mcp-proxy: tells what reached it; /sse is a stream that says one thing and stays."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/sse"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: one\n\n")
            self.wfile.flush()
            self.server.hold.wait(PATIENCE)
            self.close_connection = True
            return
        seen = {"path": self.path, "method": self.command, "body": len(body), "headers": dict(self.headers)}
        text = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Gate:
    """nginx as `agent-mcp gate` starts it."""

    def __init__(self, test, tls=True, auth=True, listen="127.0.0.1"):
        place = tempfile.TemporaryDirectory()
        test.addCleanup(place.cleanup)
        credentials, runtime = Path(place.name, "credentials"), Path(place.name, "runtime")
        credentials.mkdir()
        runtime.mkdir()
        self.inner = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Inner)
        self.inner.daemon_threads = True
        self.inner.hold = threading.Event()
        threading.Thread(target=self.inner.serve_forever, daemon=True).start()
        test.addCleanup(self.inner.server_close)
        test.addCleanup(self.inner.shutdown)
        test.addCleanup(self.inner.hold.set)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        hosts = ["localhost", "127.0.0.1", "[::1]", "agent-vm"]
        Path(credentials, "endpoint").write_text(json.dumps({"tls": tls, "auth": auth, "hosts": hosts}))
        Path(credentials, "token").write_text(TOKEN)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=gate", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", credentials / "key", "-out", credentials / "cert"],
            check=True, capture_output=True,
        )
        self.certificate = str(credentials / "cert")
        self.tls = tls
        nginx = subprocess.run(["sh", "-c", "command -v nginx"], check=True, capture_output=True, text=True).stdout.strip()
        self.log = tempfile.TemporaryFile()
        test.addCleanup(self.log.close)
        launcher = subprocess.run(
            [sys.executable, "-I", "-S", "-B", LAUNCHER, "gate", f"--nginx={nginx}", f"--listen={listen}:{self.port}",
             f"--inner-port={self.inner.server_address[1]}", "--endpoint-credential=endpoint",
             "--certificate-credential=cert", "--key-credential=key", "--token-credential=token",
             "--allow-origin=https://claude.ai"],
            env={**os.environ, "CREDENTIALS_DIRECTORY": str(credentials), "RUNTIME_DIRECTORY": str(runtime)},
            stderr=self.log,
            timeout=PATIENCE,
        )
        assert launcher.returncode == 0, self.said()
        test.addCleanup(self.end, runtime / "nginx.pid")
        # It listens by now: systemd has the unit started when the launcher ends.
        socket.create_connection(("127.0.0.1", self.port), PATIENCE).close()

    def end(self, pid_file):
        end = time.monotonic() + PATIENCE
        # Written by what goes on in the background, a moment later.
        while not (pid_file.exists() and pid_file.read_text()):
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)
        pid = int(pid_file.read_text())
        process = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        assert select.select([process], [], [], PATIENCE)[0], self.said()
        os.close(process)

    def said(self):
        self.log.seek(0)
        return self.log.read().decode()

    def context(self, **versions):
        context = ssl.create_default_context(cafile=self.certificate)
        for name, value in versions.items():
            setattr(context, name, value)
        return context

    def connection(self):
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=self.context())
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, method="POST", path="/mcp", host="127.0.0.1:4711", body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        connection = self.connection()
        try:
            connection.request(method, path, body, {"Host": host, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()


class Open(unittest.TestCase):
    def setUp(self):
        self.gate = Gate(self)

    def status(self, *arguments, **named):
        return self.gate.ask(*arguments, **named)[0]

    def test_only_the_token_lets_in(self):
        self.assertEqual(self.status(Authorization=BEARER), 200)
        for wrong in (None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"{BEARER}0", f"Bearer {TOKEN[:-1]}",
                      f"Bearer {'0' * 64}", f"{BEARER} {TOKEN}"):
            status, _, headers = self.gate.ask(Authorization=wrong)
            self.assertEqual((status, headers["WWW-Authenticate"]), (401, 'Bearer realm="agent-vm"'), wrong)
        self.assertIsNone(self.gate.ask(Authorization=BEARER)[2]["WWW-Authenticate"])

    def test_foreign_hosts_are_misdirected(self):
        for host in ("localhost", "localhost:8000", "LOCALHOST", "127.0.0.1", "[::1]:8000", "agent-vm:1"):
            self.assertEqual(self.status(host=host, Authorization=BEARER), 200, host)
        for host in ("example.org", "localhost.example.org", "127.0.0.2", "xlocalhost", "localhost.evil:8000"):
            self.assertEqual(self.status(host=host, Authorization=BEARER), 421, host)

    def test_foreign_origins_are_forbidden(self):
        for origin in (None, "https://claude.ai"):
            self.assertEqual(self.status(Authorization=BEARER, Origin=origin), 200, origin)
        for origin in ("null", "https://example.org", "http://claude.ai", "https://claude.ai.example.org",
                       "https://xclaude.ai", "http://127.0.0.1:8000", "https://claude.ai:444"):
            self.assertEqual(self.status(Authorization=BEARER, Origin=origin), 403, origin)
            self.assertEqual(self.status("OPTIONS", Origin=origin), 403, origin)

    def test_the_question_before_carries_no_token(self):
        self.assertEqual(self.status("OPTIONS", Origin="https://claude.ai"), 200)
        self.assertEqual(self.status("OPTIONS"), 401)
        self.assertEqual(self.status("POST", Origin="https://claude.ai"), 401)

    def test_what_is_behind_learns_no_token(self):
        _, body, _ = self.gate.ask(Authorization=BEARER, Mcp_Session_Id="s", Origin="https://claude.ai")
        seen = json.loads(body)
        self.assertNotIn(TOKEN, body.decode())
        self.assertEqual(seen["headers"]["Mcp-Session-Id"], "s")
        self.assertEqual(seen["headers"]["Origin"], "https://claude.ai")
        self.assertEqual(seen["headers"]["Host"], "localhost")
        self.assertNotIn(TOKEN, self.gate.said())

    def test_there_is_nothing_else(self):
        for path in ("/mcp", "/mcp/", "/sse", "/messages/?session_id=1", "/servers/a.b-c/mcp", "/servers/x/sse",
                     "/servers/x/messages/?session_id=1", "/status"):
            connection = self.gate.connection()
            connection.request("GET", path, headers={"Authorization": BEARER, "Host": "localhost"})
            self.assertEqual(connection.getresponse().status, 200, path)
            connection.close()
        for path in ("/", "/mcp/x", "/index.html", "/servers/", "/servers/x", "/servers/-x/mcp", "/status/x", "/x/mcp",
                     "/servers/a/b/mcp", "/mcp/../docs", "/x/%2e%2e/etc/passwd"):
            self.assertEqual(self.status("GET", path, Authorization=BEARER), 404, path)
        self.assertEqual(self.status("GET", "/nothing"), 401)

    def test_streams_come_as_they_are_said(self):
        connection = self.gate.connection()
        self.addCleanup(connection.close)
        connection.request("GET", "/sse", headers={"Authorization": BEARER, "Host": "localhost"})
        answer = connection.getresponse()
        self.assertEqual(answer.readline(), b"data: one\n")

    def test_bodies_have_a_limit(self):
        status, body, _ = self.gate.ask(body=b"x" * (5 << 20), Authorization=BEARER)
        self.assertEqual((status, json.loads(body)["body"]), (200, 5 << 20))
        connection = self.gate.connection()
        self.addCleanup(connection.close)
        connection.putrequest("POST", "/mcp", skip_host=True)
        for name, value in (("Host", "localhost"), ("Authorization", BEARER), ("Content-Length", str(65 << 20))):
            connection.putheader(name, value)
        connection.endheaders()
        self.assertEqual(connection.getresponse().status, 413)

    def test_old_tls_and_no_tls_are_refused(self):
        # Python warns of versions that it means to give up.
        warnings.simplefilter("ignore", DeprecationWarning)
        for version, comes_about in (("TLSv1_3", True), ("TLSv1_2", True), ("TLSv1_1", False), ("TLSv1", False)):
            version = getattr(ssl.TLSVersion, version)
            context = self.gate.context(minimum_version=version, maximum_version=version)
            # Our own side has to be willing, or it is not the gate that refuses.
            context.set_ciphers("ALL:@SECLEVEL=0")
            with socket.create_connection(("127.0.0.1", self.gate.port), PATIENCE) as plain:
                if comes_about:
                    context.wrap_socket(plain, server_hostname="localhost").close()
                else:
                    with self.assertRaises((ssl.SSLError, OSError)) as refused:
                        context.wrap_socket(plain, server_hostname="localhost")
                    self.assertIn("protocol version", str(refused.exception).replace("_", " ").lower())
        connection = http.client.HTTPConnection("127.0.0.1", self.gate.port, timeout=PATIENCE)
        self.addCleanup(connection.close)
        connection.request("POST", "/mcp", headers={"Authorization": BEARER, "Host": "localhost"})
        self.assertEqual(connection.getresponse().status, 400)

    def test_tls_1_2_is_spoken_by_suites_with_forward_secrecy_and_authenticated_encryption_only(self):
        version = ssl.TLSVersion.TLSv1_2
        everything = self.gate.context(minimum_version=version, maximum_version=version)
        # Those of shared keys and passwords need more of a client than a name.
        everything.set_ciphers("ALL:COMPLEMENTOFALL:!PSK:!SRP:@SECLEVEL=0")
        offered = [cipher["name"] for cipher in everything.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
        # Ours are weak ones too, or a refusal says nothing.
        self.assertLessEqual({"AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-NULL-SHA"}, set(offered))
        taken = set()
        for name in offered:
            context = self.gate.context(minimum_version=version, maximum_version=version)
            context.set_ciphers(f"{name}:@SECLEVEL=0")
            with socket.create_connection(("127.0.0.1", self.gate.port), PATIENCE) as plain:
                try:
                    context.wrap_socket(plain, server_hostname="localhost").close()
                    taken.add(name)
                except ssl.SSLError as refused:
                    self.assertIn("handshake failure", str(refused).replace("_", " ").lower(), name)
        good = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"}
        self.assertEqual(taken, good)

    def test_the_server_does_not_tell_its_version(self):
        self.assertEqual(self.gate.ask(Authorization="x")[2]["Server"], "nginx")


class SwitchedOff(unittest.TestCase):
    def test_without_tls(self):
        gate = Gate(self, tls=False)
        self.assertEqual(gate.ask(Authorization=BEARER)[0], 200)
        self.assertEqual(gate.ask()[0], 401)

    def test_without_a_token(self):
        gate = Gate(self, auth=False)
        self.assertEqual(gate.ask()[0], 200)
        self.assertEqual(gate.ask(host="example.org")[0], 421)
        self.assertEqual(gate.ask(Origin="https://example.org")[0], 403)


if __name__ == "__main__":
    unittest.main()
