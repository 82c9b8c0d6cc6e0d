"""Tests of the reverse proxy with a real nginx and a fake gateway. nginx and openssl must be on PATH.

    AGENT_MCP=PROGRAM python3 checks/gateway/nginx_reverse_proxy.py
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

AGENT_MCP = os.environ["AGENT_MCP"]

TOKEN = "0123456789abcdef" * 4
BEARER = f"Bearer {TOKEN}"
TIMEOUT = 20
RENEWAL = "/agent-vm/certificate"


class Inner(http.server.BaseHTTPRequestHandler):
    """A fake gateway: responds with the request that it got. /sse is a stream that sends one event and stays open."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path))
        if self.path.startswith("/sse"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: one\n\n")
            self.wfile.flush()
            self.server.hold.wait(TIMEOUT)
            self.close_connection = True
            return
        seen = {"path": self.path, "method": self.command, "body": len(body), "headers": dict(self.headers)}
        text = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = do_OPTIONS = do_HEAD = do_PUT = do_PATCH = do_TRACE = do_PROPFIND = answer

    def log_message(self, *_):
        pass


class ReverseProxy:
    """nginx as `agent-mcp reverse-proxy` starts it."""

    def __init__(self, test, tls=True, auth=True, listen="127.0.0.1"):
        place = tempfile.TemporaryDirectory()
        test.addCleanup(place.cleanup)
        credentials, runtime = Path(place.name, "credentials"), Path(place.name, "runtime")
        credentials.mkdir()
        runtime.mkdir()
        self.inner = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Inner)
        self.inner.daemon_threads = True
        self.inner.hold = threading.Event()
        self.inner.seen = []
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
        self.place = credentials
        self.runtime = runtime
        self.certify(credentials / "cert", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                     "-keyout", credentials / "key")
        self.certificate = str(credentials / "cert")
        self.tls = tls
        nginx = subprocess.run(["sh", "-c", "command -v nginx"], check=True, capture_output=True, text=True).stdout.strip()
        if os.getuid() == 0:
            # As in a service, its workers run as the same user.
            wrapper = Path(place.name, "nginx")
            wrapper.write_text(f"#!/bin/sh\nexec {nginx} -g 'user root;' \"$@\"\n")
            wrapper.chmod(0o755)
            nginx = str(wrapper)
        self.log = tempfile.TemporaryFile()
        test.addCleanup(self.log.close)
        self.launch = lambda: subprocess.run(
            [AGENT_MCP, "reverse-proxy", f"--nginx={nginx}", f"--listen={listen}:{self.port}",
             f"--inner-port={self.inner.server_address[1]}", "--endpoint-credential=endpoint",
             "--certificate-credential=cert", "--key-credential=key", "--token-credential=token",
             f"--renewal-path={RENEWAL}",
             "--allow-origin=https://claude.ai"],
            env={**os.environ, "CREDENTIALS_DIRECTORY": str(credentials), "RUNTIME_DIRECTORY": str(runtime)},
            stderr=self.log,
            timeout=TIMEOUT,
        )
        self.start()
        test.addCleanup(self.end, runtime / "nginx.pid")

    def certify(self, to, *key):
        """Creates a self-signed certificate."""
        subprocess.run(
            ["openssl", "req", "-x509", *key, "-days", "2", "-subj", "/CN=agent-vm", "-addext",
             "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", to],
            check=True, capture_output=True,
        )

    def start(self):
        assert self.launch().returncode == 0, self.output()
        # It listens already: for systemd, the unit is active once the launcher exits.
        socket.create_connection(("127.0.0.1", self.port), TIMEOUT).close()

    def end(self, pid_file):
        end = time.monotonic() + TIMEOUT
        # The forked process writes it, slightly later.
        while not (pid_file.exists() and pid_file.read_text()):
            assert time.monotonic() < end, self.output()
            time.sleep(0.02)
        pid = int(pid_file.read_text())
        process = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        assert select.select([process], [], [], TIMEOUT)[0], self.output()
        os.close(process)

    def output(self):
        self.log.seek(0)
        return self.log.read().decode()

    def context(self, **versions):
        context = ssl.create_default_context(cafile=self.certificate)
        for name, value in versions.items():
            setattr(context, name, value)
        return context

    def connection(self):
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=TIMEOUT, context=self.context())
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)

    def ask(self, method="POST", path="/mcp", host="127.0.0.1:4711", body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        connection = self.connection()
        try:
            connection.request(method, path, body, {"Host": host, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()


class Everything(unittest.TestCase):
    """With TLS and a token."""

    def setUp(self):
        self.proxy = ReverseProxy(self)

    def status(self, *arguments, **named):
        return self.proxy.ask(*arguments, **named)[0]

    def test_requests_without_the_token_are_unauthorized(self):
        self.assertEqual(self.status(Authorization=BEARER), 200)
        for wrong in (None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"{BEARER}0", f"Bearer {TOKEN[:-1]}",
                      f"Bearer {'0' * 64}", f"{BEARER} {TOKEN}"):
            status, _, headers = self.proxy.ask(Authorization=wrong)
            self.assertEqual((status, headers["WWW-Authenticate"]), (401, 'Bearer realm="agent-vm"'), wrong)
        self.assertIsNone(self.proxy.ask(Authorization=BEARER)[2]["WWW-Authenticate"])

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

    def test_cors_preflights_need_no_token_and_do_not_reach_the_gateway(self):
        ask = {"Origin": "https://claude.ai", "Access_Control_Request_Method": "POST",
               "Access_Control_Request_Headers": "authorization,content-type"}
        for path in ("/mcp", "/sse", "/servers/x/mcp", "/messages/?session_id=1", "/status", "/nothing"):
            for headers in (ask, {**ask, "Authorization": BEARER}):
                status, body, answered = self.proxy.ask("OPTIONS", path, body=b"{}", **headers)
                self.assertEqual((status, body), (204, b""))
                self.assertEqual(answered["Access-Control-Allow-Origin"], "https://claude.ai")
                self.assertEqual(answered["Vary"], "Origin")
                self.assertIn("POST", answered["Access-Control-Allow-Methods"])
                self.assertEqual(answered["Access-Control-Allow-Headers"], "authorization,content-type")
                self.assertIsNone(answered["Access-Control-Allow-Credentials"])
        def allowed(asked):
            headers = {**ask, "Access_Control_Request_Headers": asked}
            return self.proxy.ask("OPTIONS", **headers)[2]["Access-Control-Allow-Headers"]

        for asked in ("Authorization, Mcp-Param-Region,mcp-method", "last-event-id"):
            self.assertEqual(allowed(asked), asked)
        for asked in (None, "x-forwarded-for", "mcp-name, cookie", "mcp-name,,accept", "mcp-\xe9"):
            self.assertLessEqual({"authorization", "content-type", "mcp-session-id", "mcp-protocol-version", "mcp-method"},
                                 set(allowed(asked).split(", ")), asked)
            self.assertNotIn("cookie", allowed(asked))
        self.assertEqual(self.status("OPTIONS"), 401)
        self.assertEqual(self.status("OPTIONS", Authorization=BEARER), 405)
        self.assertEqual(self.status("POST", Origin="https://claude.ai"), 401)
        self.assertEqual(self.proxy.inner.seen, [])
        # Control: an allowed request reaches the gateway, and its response has none of the preflight's headers.
        answered = self.proxy.ask(Authorization=BEARER, Origin="https://claude.ai")[2]
        self.assertEqual(self.proxy.inner.seen, [("POST", "/mcp")])
        self.assertIsNone(answered["Access-Control-Allow-Methods"])

    def test_other_methods_do_not_reach_the_gateway(self):
        for method in ("HEAD", "PUT", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "CONNECT", "get", "POSTS"):
            for path in ("/mcp", "/status", "/servers/x/sse"):
                status = self.status(method, path, Authorization=BEARER)
                self.assertIn(status, (400, 405), (method, path))
                self.assertIn(self.status(method, path), (400, 401, 405), (method, path))
        self.assertEqual(self.proxy.inner.seen, [])
        self.assertEqual(self.proxy.ask("PATCH", Authorization=BEARER)[2]["Allow"], "GET, POST, DELETE")

    def test_only_the_normalized_path_is_passed_on(self):
        for asked, seen in (
            ("/mcp", "/mcp"),
            ("//mcp", "/mcp"),
            ("/./mcp/", "/mcp/"),
            ("/x/../mcp", "/mcp"),
            ("/x/%2e%2e/mcp", "/mcp"),
            ("/%6dcp", "/mcp"),
            ("/servers/a%2f..%2fb/mcp", "/servers/b/mcp"),
            ("/servers//a/mcp?a=/../x&b=%2f", "/servers/a/mcp?a=/../x&b=%2f"),
            ("/status/../mcp", "/mcp"),
            ("/servers/..%2fmcp", "/mcp"),
            ("/mcp/../status?x", "/status?x"),
            ("/mcp?", "/mcp"),
        ):
            self.proxy.inner.seen.clear()
            self.assertEqual(self.status("GET", asked, Authorization=BEARER), 200, asked)
            self.assertEqual(self.proxy.inner.seen, [("GET", seen)], asked)
        self.proxy.inner.seen.clear()
        for path in ("/mcp/../x", "/mcp;x", "/mcp%3bx", "/mcp%0a", "/mcp%0d%0aX:%20y", "/mcp%20", "/mcp%00", "/mcp%2fx", "/mcp%3fx",
                     "/mcp%23", "/servers/%2e%2e/x", "/servers/a%0a/mcp", "/servers/a%20b/mcp",
                     "/../../mcp/x", "/..%2f..%2fetc/passwd", "/status%0a", "\\mcp", "/mcp%5c..%5cx", "/mcp/%2e%2e/%2e%2e/"):
            self.assertIn(self.status("GET", path, Authorization=BEARER), (400, 404), path)
        self.assertEqual(self.proxy.inner.seen, [])

    def raw(self, text):
        """Sends bytes and returns the status of the response."""
        connection = self.proxy.connection()
        self.addCleanup(connection.close)
        connection.connect()
        connection.sock.sendall(text.encode())
        connection.sock.settimeout(TIMEOUT)
        got = connection.sock.recv(1 << 16)
        return int(got.split()[1])

    def test_ambiguous_requests_are_refused(self):
        head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BEARER}\r\n"
        self.assertEqual(self.raw(f"{head}Content-Length: 2\r\n\r\n{{}}"), 200)
        smuggled = f"GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BEARER}\r\n\r\n"
        self.proxy.inner.seen.clear()
        for lines in (
            f"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
            f"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n{smuggled}",
            f"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}",
            "Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
            "Content-Length: +2\r\n\r\n{}",
            "Content-Length: 2, 2\r\n\r\n{}",
            f"Authorization: {BEARER}\r\nContent-Length: 2\r\n\r\n{{}}",
            "Authorization: Bearer other\r\nContent-Length: 2\r\n\r\n{}",
            "Host: localhost\r\nContent-Length: 2\r\n\r\n{}",
            "Host: evil.test\r\nContent-Length: 2\r\n\r\n{}",
        ):
            self.assertIn(self.raw(head + lines), (400, 501), lines)
        self.assertIn(self.raw("GET https://evil.test/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n"), (400, 421))
        self.assertEqual(self.proxy.inner.seen, [])

    def test_the_gateway_does_not_get_the_token(self):
        _, body, _ = self.proxy.ask(Authorization=BEARER, Mcp_Session_Id="s", Origin="https://claude.ai")
        seen = json.loads(body)
        self.assertNotIn(TOKEN, body.decode())
        self.assertEqual(seen["headers"]["Mcp-Session-Id"], "s")
        self.assertEqual(seen["headers"]["Origin"], "https://claude.ai")
        self.assertEqual(seen["headers"]["Host"], "localhost")
        self.assertNotIn(TOKEN, self.proxy.output())

    def test_other_paths_are_not_found(self):
        for path in ("/mcp", "/mcp/", "/sse", "/messages/?session_id=1", "/servers/a.b-c/mcp", "/servers/x/sse",
                     "/servers/x/messages/?session_id=1", "/status"):
            connection = self.proxy.connection()
            connection.request("GET", path, headers={"Authorization": BEARER, "Host": "localhost"})
            self.assertEqual(connection.getresponse().status, 200, path)
            connection.close()
        for path in ("/", "/mcp/x", "/index.html", "/servers/", "/servers/x", "/servers/-x/mcp", "/status/x", "/x/mcp",
                     "/servers/a/b/mcp", "/mcp/../docs", "/x/%2e%2e/etc/passwd"):
            self.assertEqual(self.status("GET", path, Authorization=BEARER), 404, path)
        self.assertEqual(self.status("GET", "/nothing"), 401)

    def test_there_is_no_authorization_server(self):
        for path in ("/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server/mcp", "/x/../.well-known/x"):
            for headers in ({}, {"Authorization": BEARER}, {"Authorization": "Bearer wrong"}):
                self.assertEqual(self.status("GET", path, **headers), 404, (path, headers))
            self.assertEqual(self.status("GET", path, host="example.org"), 421, path)
            self.assertEqual(self.status("GET", path, Origin="https://example.org"), 403, path)
        self.assertEqual(self.status("GET", "/x/.well-known/y"), 401)
        self.assertEqual(self.proxy.inner.seen, [])

    def test_streams_are_not_buffered(self):
        connection = self.proxy.connection()
        self.addCleanup(connection.close)
        connection.request("GET", "/sse", headers={"Authorization": BEARER, "Host": "localhost"})
        answer = connection.getresponse()
        self.assertEqual(answer.readline(), b"data: one\n")

    def test_request_bodies_have_a_limit(self):
        status, body, _ = self.proxy.ask(body=b"x" * (5 << 20), Authorization=BEARER)
        self.assertEqual((status, json.loads(body)["body"]), (200, 5 << 20))
        connection = self.proxy.connection()
        self.addCleanup(connection.close)
        connection.putrequest("POST", "/mcp", skip_host=True)
        for name, value in (("Host", "localhost"), ("Authorization", BEARER), ("Content-Length", str(65 << 20))):
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (413, "application/json"))
        message = json.loads(answer.read())["error"]["message"]
        self.assertEqual(message, "the message is longer than 64 MiB, the maximum for this server")

    def presented(self):
        """Returns the certificate that a new connection gets, as PEM."""
        return ssl.get_server_certificate(("127.0.0.1", self.proxy.port), timeout=TIMEOUT)

    def test_a_certificate_is_renewed_without_closing_connections(self):
        first = self.presented()
        stream = self.proxy.connection()
        self.addCleanup(stream.close)
        stream.request("GET", "/sse", headers={"Authorization": BEARER, "Host": "localhost"})
        self.assertEqual(stream.getresponse().readline(), b"data: one\n")
        renewed = self.proxy.place / "renewed"
        self.proxy.certify(renewed, "-key", self.proxy.place / "key")
        body = renewed.read_bytes()
        for method, status, headers in (
            ("PUT", 401, {}),
            ("PUT", 401, {"Authorization": f"{BEARER}0"}),
            ("PUT", 403, {"Authorization": BEARER, "Origin": "https://evil.test"}),
            ("GET", 403, {"Authorization": BEARER}),
            ("POST", 403, {"Authorization": BEARER}),
            ("DELETE", 403, {"Authorization": BEARER}),
        ):
            self.assertEqual(self.proxy.ask(method, RENEWAL, body=body, **headers)[0], status, (method, headers))
        self.assertEqual(self.proxy.ask("PUT", RENEWAL, body=b"x" * (65 << 10), Authorization=BEARER)[0], 413)
        self.assertEqual(self.presented(), first)
        self.assertEqual(self.proxy.ask("PUT", RENEWAL, body=body, Authorization=BEARER)[0], 204)
        second = self.presented()
        self.assertNotEqual(second, first)
        self.assertEqual(ssl.PEM_cert_to_DER_cert(second), ssl.PEM_cert_to_DER_cert(body.decode()))
        self.proxy.certificate = str(renewed)
        self.assertEqual(self.status(Authorization=BEARER), 200)
        self.assertEqual([path for _, path in self.proxy.inner.seen if "certificate" in path], [])
        # The renewed certificate survives a restart of the service; a new one from the host then replaces it.
        third = self.proxy.place / "third"
        self.proxy.certify(third, "-key", self.proxy.place / "key")
        for from_host, presented in ((self.proxy.place / "cert", second), (third, third.read_text())):
            self.proxy.end(self.proxy.runtime / "nginx.pid")
            (self.proxy.place / "cert").write_text(from_host.read_text())
            self.proxy.start()
            self.assertEqual(ssl.PEM_cert_to_DER_cert(self.presented()), ssl.PEM_cert_to_DER_cert(presented))

    def test_old_tls_and_no_tls_are_refused(self):
        # Python warns about these versions.
        warnings.simplefilter("ignore", DeprecationWarning)
        for version, accepted in (("TLSv1_3", True), ("TLSv1_2", True), ("TLSv1_1", False), ("TLSv1", False)):
            version = getattr(ssl.TLSVersion, version)
            context = self.proxy.context(minimum_version=version, maximum_version=version)
            # The client must accept everything, so that the server is the one that refuses.
            context.set_ciphers("ALL:@SECLEVEL=0")
            with socket.create_connection(("127.0.0.1", self.proxy.port), TIMEOUT) as plain:
                if accepted:
                    context.wrap_socket(plain, server_hostname="localhost").close()
                else:
                    with self.assertRaises((ssl.SSLError, OSError)) as refused:
                        context.wrap_socket(plain, server_hostname="localhost")
                    self.assertIn("protocol version", str(refused.exception).replace("_", " ").lower())
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=TIMEOUT)
        self.addCleanup(connection.close)
        connection.request("POST", "/mcp", headers={"Authorization": BEARER, "Host": "localhost"})
        self.assertEqual(connection.getresponse().status, 400)

    def test_tls_1_2_accepts_only_suites_with_forward_secrecy_and_authenticated_encryption(self):
        version = ssl.TLSVersion.TLSv1_2
        everything = self.proxy.context(minimum_version=version, maximum_version=version)
        # Suites with pre-shared keys or passwords would need client configuration.
        everything.set_ciphers("ALL:COMPLEMENTOFALL:!PSK:!SRP:@SECLEVEL=0")
        offered = [cipher["name"] for cipher in everything.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
        # Control: the client offers weak suites too.
        self.assertLessEqual({"AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-NULL-SHA"}, set(offered))
        taken = set()
        for name in offered:
            context = self.proxy.context(minimum_version=version, maximum_version=version)
            context.set_ciphers(f"{name}:@SECLEVEL=0")
            with socket.create_connection(("127.0.0.1", self.proxy.port), TIMEOUT) as plain:
                try:
                    context.wrap_socket(plain, server_hostname="localhost").close()
                    taken.add(name)
                except ssl.SSLError as refused:
                    self.assertIn("handshake failure", str(refused).replace("_", " ").lower(), name)
        good = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"}
        self.assertEqual(taken, good)

    def test_the_server_header_has_no_version(self):
        self.assertEqual(self.proxy.ask(Authorization="x")[2]["Server"], "nginx")


class Disabled(unittest.TestCase):
    def test_without_tls(self):
        proxy = ReverseProxy(self, tls=False)
        self.assertEqual(proxy.ask(Authorization=BEARER)[0], 200)
        self.assertEqual(proxy.ask()[0], 401)

    def test_without_a_token(self):
        proxy = ReverseProxy(self, auth=False)
        self.assertEqual(proxy.ask()[0], 200)
        self.assertEqual(proxy.ask(host="example.org")[0], 421)
        self.assertEqual(proxy.ask(Origin="https://example.org")[0], 403)
        # Renewing the certificate still needs the token.
        self.assertEqual(proxy.ask("PUT", RENEWAL, body=b"x")[0], 401)


if __name__ == "__main__":
    unittest.main()
