"""The addon in a real mitmproxy: requests, tunnels, interception, secrets, and access to the port."""

import base64
import http.client
import json
import os
import socket
import ssl
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from proxy_site import SECRET, Site


class Proxy(Site):
    def test_a_listed_host_is_reachable_and_logged(self):
        answer, text = self.get(f"http://127.0.0.1:{self.plain_port}/a?b")
        self.assertEqual((answer.status, json.loads(text)["path"]), (200, "/a?b"))
        (line,) = self.log()
        self.assertEqual(
            [line[key] for key in ("verdict", "method", "host", "path", "status", "bytes")],
            ["allow", "GET", "127.0.0.1", "/a?b", 200, len(text)],
        )

    def test_a_request_body_is_passed_on(self):
        answer, text = self.get(f"http://127.0.0.1:{self.plain_port}/", body="x" * 100_000)
        self.assertEqual(len(json.loads(text)["body"]), 100_000)

    def test_other_hosts_are_refused_with_a_hint_and_counted(self):
        before = self.denied()
        for host in ["example.org", "10.0.2.2", "169.254.169.254", "127.0.0.2"]:
            answer, text = self.get(f"http://{host}/")
            self.assertEqual(answer.status, 403, host)
            self.assertIn(f"agent-vm egress allow --branch app-main {host}:80", text)
            self.assertIn("(not on the allow list)" if host == "example.org" else "(a closed address)", text)
            # After a refused CONNECT, most clients show only the status line.
            status, headers, text, _ = self.tunnel(host, 443)
            command = f"agent-vm egress allow --branch app-main {host}:443"
            self.assertEqual((status, headers["X-Agent-VM"]), (403, command))
            self.assertIn(command, self.reason)
            self.assertIn(command, text)
        self.assertEqual([line["verdict"] for line in self.log(8)], ["deny"] * 8)
        self.assertEqual(self.denied() - before, 8)

    def test_a_refusal_that_no_allowed_host_would_change_names_another_command(self):
        self.set_rules(deny=[("example.org", None)])
        answer, text = self.get("http://example.org/")
        self.assertEqual((answer.status, answer.headers["X-Agent-VM"]), (403, "agent-vm egress list app-main"))
        self.set_rules(mode="none")
        answer, text = self.get("http://example.org/")
        self.assertEqual((answer.status, answer.headers["X-Agent-VM"]), (403, "agent-vm set app-main egress=allowlist"))

    def test_a_refused_request_with_a_large_body_is_aborted(self):
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.get("http://example.org/", body="x" * (2 << 20))
        self.assertEqual(self.log()[0]["verdict"], "deny")

    def test_a_listed_name_that_resolves_to_the_host_is_refused(self):
        # Like a rebound name: it resolves to 127.0.0.1 with every resolver, but it is not localhost.
        self.set_rules(allow=[("127.1", self.plain_port)])
        answer, _ = self.get(f"http://127.1:{self.plain_port}/")
        self.assertEqual(answer.status, 502)
        self.assertEqual(self.plain.seen, [])
        (line,) = self.log()
        self.assertEqual((line["verdict"], line["method"]), ("deny", "RESOLVE"))
        self.assertEqual(line["reason"], "resolves to 127.0.0.1, an address of the host or its network")

    def test_a_listed_name_may_resolve_to_a_listed_address(self):
        listed = ("127.0.0.1", self.plain_port)
        self.set_rules(allow=[("127.1", self.plain_port), ("127.1", self.tls_port), listed])
        self.assertEqual(self.get(f"http://127.1:{self.plain_port}/")[0].status, 200)
        # The entry opens one port, and no name that is not listed.
        self.assertEqual(self.get(f"http://127.1:{self.tls_port}/")[0].status, 502)
        self.assertEqual(self.get(f"http://127.0.1:{self.plain_port}/")[0].status, 403)
        self.assertEqual(self.tls.seen, [])

    def test_a_host_that_cannot_be_reached_is_named_with_the_reason(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            closed = free.getsockname()[1]
        self.set_rules(allow=[("nowhere.invalid", None), ("127.0.0.1", closed), ("127.1", closed)])
        # Without a network, as in a Nix build, the name is unknown for now.
        unknown = "(unknown host name|host name lookup failed, try again)"
        _, text = self.get("http://nowhere.invalid/")
        self.assertRegex(text, rf"\Aagent-vm: {unknown}: nowhere\.invalid\n\Z")
        self.assertRegex(self.log()[-1]["reason"], rf"\A{unknown}\Z")
        for host, port, reason in [
            ("nowhere.invalid", 443, unknown),
            ("127.0.0.1", closed, "connection refused"),
            ("127.1", closed, "the host name resolves to a closed address; on the host, agent-vm egress log --denied shows it"),
        ]:
            if host == "127.1":
                self.set_rules(allow=[("127.1", closed)])
            before = len(self.log(0))
            status, _, text, _ = self.tunnel(host, port)
            words = rf"cannot connect to {host}:{port}: {reason}"
            self.assertEqual(status, 502)
            self.assertRegex(text, rf"\Aagent-vm: {words}\n\Z")
            # Most clients show only the status line.
            self.assertRegex(self.reason, rf"\Aagent-vm {words}\Z")
            allow, last = self.log(before + 2)[-2:]
            self.assertEqual((allow["verdict"], allow["method"]), ("allow", "CONNECT"))
            if host == "127.1":
                self.assertEqual((last["verdict"], last["method"]), ("deny", "RESOLVE"))
            else:
                self.assertEqual((last["verdict"], last["status"]), ("allow", 502))
                self.assertRegex(last["reason"], rf"\A{reason}\Z")

    def test_another_host_header_is_refused(self):
        url = f"http://127.0.0.1:{self.plain_port}/"
        self.assertEqual(self.get(url, {"Host": "evil.test"})[0].status, 403)
        self.assertEqual(self.plain.seen, [])
        self.assertEqual(self.get(url, {"Host": f"127.0.0.1:{self.plain_port}"})[0].status, 200)

    def test_tls_is_passed_through(self):
        status, _, _, issuer = self.tunnel("localhost", self.tls_port)
        self.assertEqual((status, issuer), (200, "test"))
        self.assertEqual([line["method"] for line in self.log()], ["CONNECT"])

    def handshake(self, name, version=None):
        """Returns the TLS server's response to a client that trusts every certificate. `version`: TLS version of the first record."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
        raw = self.raw_tunnel(self.tls_port)
        first = True
        request = f"GET / HTTP/1.1\r\nHost: localhost:{self.tls_port}\r\nConnection: close\r\n\r\n".encode()
        step = tls.do_handshake
        while True:
            try:
                done = step()
                if step == tls.do_handshake:
                    tls.write(request)
                    step = tls.read
                else:
                    return done
            except ssl.SSLWantReadError:
                pass
            data = outgoing.read()
            if data and first and version:
                data = data[:1] + version + data[3:]
            first = first and not data
            raw.sendall(data)
            try:
                got = raw.recv(1 << 16)
            except ConnectionError:
                got = b""
            if not got:
                return b""
            incoming.write(got)

    def test_another_server_name_is_refused(self):
        for mode in ["allowlist", "monitor"]:
            self.set_rules(mode=mode, secrets=[SECRET])
            self.assertIn(b"200 OK", self.handshake("localhost"), mode)
            self.tls.seen.clear()
            # The server has a certificate for this name too.
            for name in ["evil.test", None]:
                self.assertEqual(self.handshake(name), b"", (mode, name))
            self.assertEqual(self.tls.seen, [])
        denied = [line for line in self.log(0) if line["verdict"] == "deny"]
        self.assertEqual([line["host"] for line in denied], ["evil.test", None] * 2)

    def test_an_invalid_handshake_is_refused(self):
        self.assertIn(b"200 OK", self.handshake("localhost", version=b"\x03\x01"))
        self.tls.seen.clear()
        self.assertEqual(self.handshake("evil.test", version=b"\x03\x04"), b"")
        self.assertEqual(self.tls.seen, [])

    def asked(self, text):
        """Returns the first bytes of the response to a request in a tunnel to the HTTP server."""
        raw = self.raw_tunnel(self.plain_port)
        raw.sendall(text.replace("PORT", str(self.plain_port)).encode())
        try:
            return raw.recv(1 << 16)[:12]
        except ConnectionError:
            return b""

    def test_a_request_in_a_tunnel_must_be_for_the_tunnels_host(self):
        good = "GET / HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n"
        self.assertEqual(self.asked(good), b"HTTP/1.1 200")
        self.assertEqual(self.asked(good.replace("GET /", "GET http://localhost:PORT/")), b"HTTP/1.1 200")
        self.assertEqual(json.loads(self.plain.seen[-1])["path"], "/")
        self.plain.seen.clear()
        for bad in [
            good.replace("localhost", "evil.test"),
            good.replace("GET /", "GET http://evil.test/"),
            good.replace("\r\n\r\n", "\r\nHost: evil.test\r\n\r\n"),
            good.replace("PORT", "PORT, evil.test"),
            good.replace("PORT", "@evil.test"),
            good.replace("localhost", "evil.test").replace("GET", "M-SEARCH"),
            good.replace("localhost", "evil.test").replace("GET", "get"),
            # Servers parse these in different ways.
            good.replace("\r\n\r\n", "\r\nX: a\rHost: evil.test\r\n\r\n"),
            good.replace("\r\n\r\n", "\r\nContent-Length: +0\r\n\r\n"),
        ]:
            # Refused by the addon or by mitmproxy. The server would respond with 200, or 501 for the method.
            self.assertIn(self.asked(bad)[9:], [b"", b"400", b"403"], bad)
        # A blank line before a request does not make it another protocol.
        self.assertEqual(self.asked("\r\n" + good), b"")
        self.assertEqual(self.plain.seen, [])

    def test_other_protocols_need_an_entry_with_a_port(self):
        raw = self.raw_tunnel(self.plain_port)
        raw.sendall(b"SSH-2.0-test\r\n\r\n")
        # The HTTP server's own response to a request that is not HTTP.
        self.assertIn(b"400", raw.recv(1 << 16))
        self.set_rules(mode="monitor")
        raw = self.raw_tunnel(self.plain_port)
        raw.sendall(b"SSH-2.0-test\r\n\r\n")
        self.assertEqual(raw.recv(1 << 16), b"")
        self.assertEqual(self.log(3)[-1]["reason"], "neither TLS nor HTTP")

    def test_a_name_opens_no_other_protocol_to_a_listed_address_that_allows_none_itself(self):
        port = self.plain_port
        listed = [("127.1", port), ("127.0.0.1", port)]

        def answers(host):
            raw = self.raw_tunnel(port, host)
            raw.sendall(b"SSH-2.0-test\r\n\r\n")
            upgrade = self.raw_tunnel(port, host)
            upgrade.sendall(f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n".encode())
            return [b"400" in raw.recv(1 << 16), b"101" in upgrade.recv(1 << 16)]

        # Control: the address's own entry allows it.
        self.set_rules(allow=listed)
        self.assertEqual([answers("127.1"), answers("127.0.0.1")], [[True, True]] * 2)
        # The proxy must see a secret's requests, so it lets nothing else through to its host.
        self.set_rules(allow=listed, secrets=[{**SECRET, "host": "127.0.0.1", "port": port}])
        self.assertEqual([answers("127.1"), answers("127.0.0.1")], [[False, False]] * 2)

    def test_monitor_mode_intercepts_tls(self):
        self.set_rules(mode="monitor")
        status, _, text, issuer = self.tunnel("localhost", self.tls_port, ca=self.own_ca, path="/x?y")
        self.assertEqual((status, issuer), (200, "mitmproxy"))
        line = self.log(2)[1]
        self.assertEqual([line[key] for key in ("method", "path", "status", "bytes")], ["GET", "/x?y", 200, len(text)])
        self.assertEqual(self.tunnel("example.org", 443)[0], 403)

    def test_a_secret_is_sent_to_its_host_only_and_not_returned(self):
        self.set_rules(secrets=[SECRET])
        headers = {"Authorization": "Bearer placeholder-1", "X-Api-Key": "placeholder-1"}
        status, answered, text, issuer = self.tunnel("localhost", self.tls_port, ca=self.own_ca, headers=headers)
        self.assertEqual((status, issuer), (200, "mitmproxy"))
        self.assertIn("Bearer s3cr3t-value", self.tls.seen[-1])
        self.assertNotIn("s3cr3t-value", text + str(answered) + self.reason)
        self.assertEqual(self.reason, "placeholder-1")
        self.assertIn("Bearer placeholder-1", text)
        # The secret is not sent without TLS or to another host, and is not in the log.
        _, text = self.get(f"http://localhost:{self.plain_port}/", headers)
        self.assertIn("Bearer placeholder-1", self.plain.seen[-1])
        _, text = self.get(f"http://127.0.0.1:{self.plain_port}/", headers)
        self.assertIn("Bearer placeholder-1", self.plain.seen[-1])
        self.assertNotIn("s3cr3t-value", json.dumps(self.log(4)))

    def upgraded(self, protocol, port):
        """Returns the whole response to an upgrade request, over intercepted TLS or without TLS."""
        connection = self.raw_tunnel(port)
        if port == self.tls_port:
            context = ssl.create_default_context(cafile=self.own_ca)
            connection = context.wrap_socket(connection, server_hostname="localhost")
            self.addCleanup(connection.close)
        lines = [
            "GET / HTTP/1.1",
            f"Host: localhost:{port}",
            "Connection: Upgrade",
            f"Upgrade: {protocol}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "X-Api-Key: placeholder-1",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        got = b""
        try:
            while piece := connection.recv(1 << 16):
                got += piece
        except (ConnectionError, ssl.SSLEOFError):
            pass
        return got

    def test_a_secret_is_not_returned_over_websocket(self):
        self.set_rules(secrets=[SECRET])
        got = self.upgraded("websocket", self.tls_port)
        self.assertEqual(self.tls.seen, ["s3cr3t-value"])
        self.assertIn(b"X-Echo: placeholder-1\r\n", got)
        self.assertIn(b"echo placeholder-1", got)
        self.assertNotIn(b"s3cr3t-value", got)

    def test_intercepted_connections_are_upgraded_only_to_websocket(self):
        self.assertIn(b"echo ", self.upgraded("other", self.plain_port))
        before = len(self.log(2))
        self.set_rules(secrets=[SECRET])
        self.assertNotIn(b"echo ", self.upgraded("other", self.tls_port))
        self.assertEqual(self.tls.seen, ["s3cr3t-value"])
        line = self.log(before + 2)[-1]
        self.assertEqual((line["verdict"], line["reason"]), ("deny", "upgrade to a protocol other than WebSocket"))

    def test_a_secret_is_inserted_into_basic_authorization(self):
        # git sends its tokens this way.
        self.set_rules(secrets=[SECRET])
        encode = lambda credentials: "Basic " + base64.b64encode(credentials.encode()).decode()
        headers = {"Authorization": encode("me:placeholder-1")}
        self.assertEqual(self.tunnel("localhost", self.tls_port, ca=self.own_ca, headers=headers)[0], 200)
        self.assertIn(encode("me:s3cr3t-value"), self.tls.seen[-1])

    def test_rules_change_without_a_restart(self):
        url = f"http://127.0.0.1:{self.plain_port}/"
        for mode, allow, status in [("allowlist", [], 403), ("allowlist", None, 200), ("none", None, 403)]:
            self.set_rules(mode=mode, allow=allow)
            self.assertEqual(self.get(url)[0].status, status, mode)

    def test_a_denied_internationalized_name_is_refused(self):
        self.set_rules(mode="open", deny=[("xn--pp-eka.example", None)])
        self.assertEqual(self.tunnel("xn--pp-eka.example", 443)[0], 403)
        self.assertEqual(self.get("http://xn--pp-eka.example/")[0].status, 403)
        self.assertEqual([line["reason"] for line in self.log(2)], ["on the deny list"] * 2)
        # Control: another name is allowed, but does not exist.
        self.assertEqual(self.get("http://xn--pp-eka.invalid/")[0].status, 502)

    def test_other_users_of_the_host_are_not_served(self):
        self.set_rules(peer_uid=os.getuid() + 1)
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.get(f"http://127.0.0.1:{self.plain_port}/")
        self.assertEqual(self.plain.seen, [])

    def test_open_mode_allows_names_but_not_the_host(self):
        self.set_rules(mode="open", allow=[])
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/")[0].status, 403)
        self.assertEqual(self.get(f"http://localhost:{self.plain_port}/")[0].status, 403)
        self.assertEqual(self.tunnel("169.254.169.254", 80)[0], 403)
        # Allowed, but the name does not exist.
        self.assertEqual(self.get("http://nowhere.invalid/")[0].status, 502)


class Unusual(Site):
    """Unusual requests end at most their own connection."""

    def ask(self, connection, head):
        connection.settimeout(20)
        connection.sendall(head + b"\r\n\r\n")
        try:
            while connection.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        self.assertIsNone(self.proxy.poll(), (head, (self.place / "mitmdump.log").read_text()))

    def test_an_invalid_content_length_does_not_end_the_proxy(self):
        for length in [b"\xc2\xb2", b"\xd9\xa3", b"9" * 5000, b"-1", b"1e3", b"0x1", b"\xff", b"1, 1", b""]:
            for host in [b"127.0.0.1:%d" % self.plain_port, b"evil.test"]:
                with socket.create_connection(("127.0.0.1", self.port), 10) as raw:
                    head = b"GET http://%s/ HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %s"
                    self.ask(raw, head % (host, host, length))
        # Control: a number is accepted.
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/", body="x")[0].status, 200)

    def test_invalid_credentials_do_not_end_the_proxy(self):
        self.set_rules(secrets=[SECRET])
        for credentials in [b"Basic \xc3\xa9", b"Basic \xff", b"Basic ====", b"Basic", b"\xc2\xb2 \xc2\xb2"]:
            raw = self.raw_tunnel(self.tls_port)
            with ssl.create_default_context(cafile=self.own_ca).wrap_socket(raw, server_hostname="localhost") as secured:
                host = b"localhost:%d" % self.tls_port
                self.ask(secured, b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nAuthorization: %s" % (host, credentials))
        # Control: valid credentials are passed on.
        plain = base64.b64encode(b"me:placeholder-1").decode()
        _, _, text, _ = self.tunnel("localhost", self.tls_port, ca=self.own_ca, headers={"Authorization": f"Basic {plain}"})
        self.assertIn(plain, text)
        self.assertIn(base64.b64encode(b"me:s3cr3t-value").decode(), self.tls.seen[-1])


class Ending(Site):
    """A failure ends the proxy with all connections."""

    def test_a_proxy_that_cannot_log_passes_nothing_on(self):
        url = f"http://127.0.0.1:{self.plain_port}/"
        self.set_rules(allow=[])
        self.assertEqual(self.get(url)[0].status, 403)
        (self.place / "log" / "egress.jsonl").rename(self.place / "log" / "old")
        (self.place / "log" / "egress.jsonl").mkdir()
        self.addCleanup((self.place / "log" / "egress.jsonl").rmdir)
        with self.assertRaises((OSError, http.client.HTTPException)):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request("GET", url)
            connection.getresponse()
        self.assertEqual(self.proxy.wait(10), 70)
        self.assertEqual(self.plain.seen, [])


class Tightening(Site):
    def test_an_open_tunnel_ends_when_the_rules_no_longer_allow_it(self):
        raw = self.raw_tunnel(self.tls_port)
        # The tunnel stays open if the new rules allow it.
        self.set_rules(allow=[("localhost", self.tls_port)])
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/")[0].status, 403)
        self.assertIsNone(self.proxy.poll())
        self.set_rules(mode="none")
        self.assertEqual(raw.recv(1), b"")
        self.assertEqual(self.proxy.wait(10), 70)


class TighteningAnAddress(Site):
    def test_a_connection_by_name_ends_when_its_address_is_no_longer_listed(self):
        name, address = ("127.1", self.plain_port), ("127.0.0.1", self.plain_port)
        self.set_rules(allow=[name, address])
        kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        self.addCleanup(kept.close)
        kept.request("GET", f"http://127.1:{self.plain_port}/")
        self.assertEqual(kept.getresponse().read()[:1], b"{")
        # Control: another change of the rules leaves it open.
        self.set_rules(allow=[name, address], deny=[("evil.test", None)])
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/")[0].status, 200)
        self.assertIsNone(self.proxy.poll())
        self.set_rules(allow=[name])
        self.assertEqual(self.proxy.wait(10), 70)


class TighteningAfterAnUpgrade(Site):
    def test_an_upgraded_connection_ends_when_the_rules_no_longer_allow_it(self):
        url = f"http://localhost:{self.plain_port}/"
        held = socket.create_connection(("127.0.0.1", self.port), 10)
        self.addCleanup(held.close)
        lines = [f"GET {url} HTTP/1.1", f"Host: localhost:{self.plain_port}", "Connection: Upgrade", "Upgrade: held"]
        held.sendall("\r\n".join([*lines, "", ""]).encode())
        got = b""
        while b"echo " not in got:
            got += held.recv(1 << 16)
        # An idle connection after a complete request does not count as open.
        kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        self.addCleanup(kept.close)
        kept.request("GET", f"http://127.0.0.1:{self.plain_port}/")
        kept.getresponse().read()
        self.set_rules(allow=[("localhost", self.plain_port)])
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/")[0].status, 403)
        self.assertIsNone(self.proxy.poll())
        self.set_rules(mode="none")
        self.assertEqual(held.recv(1), b"")
        self.assertEqual(self.proxy.wait(10), 70)


if __name__ == "__main__":
    unittest.main()
