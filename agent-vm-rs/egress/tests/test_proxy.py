"""The addon in the real mitmproxy: requests, tunnels, interception, secrets, and who may use the port."""

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
    def test_a_listed_host_is_reached_and_logged(self):
        answer, text = self.get(f"http://127.0.0.1:{self.plain_port}/a?b")
        self.assertEqual((answer.status, json.loads(text)["path"]), (200, "/a?b"))
        (line,) = self.log()
        self.assertEqual(
            [line[key] for key in ("verdict", "method", "host", "path", "status", "bytes")],
            ["allow", "GET", "127.0.0.1", "/a?b", 200, len(text)],
        )

    def test_a_body_goes_through(self):
        answer, text = self.get(f"http://127.0.0.1:{self.plain_port}/", body="x" * 100_000)
        self.assertEqual(len(json.loads(text)["body"]), 100_000)

    def test_others_are_refused_with_a_way_out_and_counted(self):
        before = self.denied()
        for host in ["example.org", "10.0.2.2", "169.254.169.254", "127.0.0.2"]:
            answer, text = self.get(f"http://{host}/")
            self.assertEqual(answer.status, 403, host)
            self.assertIn(f"agent-vm egress allow --branch app-main {host}:80", text)
            # Of the answer to CONNECT clients show little more than the status line.
            status, headers, text, _ = self.tunnel(host, 443)
            command = f"agent-vm egress allow --branch app-main {host}:443"
            self.assertEqual((status, headers["X-Agent-VM"]), (403, command))
            self.assertIn(command, self.reason)
            self.assertIn(command, text)
        self.assertEqual([line["verdict"] for line in self.log(8)], ["deny"] * 8)
        self.assertEqual(self.denied() - before, 8)

    def test_a_refused_request_with_a_large_body_is_cut_off(self):
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.get("http://example.org/", body="x" * (2 << 20))
        self.assertEqual(self.log()[0]["verdict"], "deny")

    def test_a_name_of_the_hosts_address_is_refused_though_listed(self):
        # Resolves to 127.0.0.1 by every resolver, but is not localhost: as a name that is rebound would.
        self.set_rules(allow=[("127.1", self.plain_port)])
        answer, _ = self.get(f"http://127.1:{self.plain_port}/")
        self.assertEqual(answer.status, 502)
        self.assertEqual(self.plain.seen, [])
        self.assertEqual([(line["verdict"], line["method"]) for line in self.log()], [("deny", "RESOLVE")])

    def test_another_host_header_is_refused(self):
        url = f"http://127.0.0.1:{self.plain_port}/"
        self.assertEqual(self.get(url, {"Host": "evil.test"})[0].status, 403)
        self.assertEqual(self.plain.seen, [])
        self.assertEqual(self.get(url, {"Host": f"127.0.0.1:{self.plain_port}"})[0].status, 200)

    def test_tls_passes_through_untouched(self):
        status, _, _, issuer = self.tunnel("localhost", self.tls_port)
        self.assertEqual((status, issuer), (200, "test"))
        self.assertEqual([line["method"] for line in self.log()], ["CONNECT"])

    def handshake(self, name, version=None):
        """What a client that trusts everybody gets from the TLS server through a tunnel; its own version in the first record."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
        raw = self.raw_tunnel(self.tls_port)
        first = True
        said = f"GET / HTTP/1.1\r\nHost: localhost:{self.tls_port}\r\nConnection: close\r\n\r\n".encode()
        step = tls.do_handshake
        while True:
            try:
                done = step()
                if step == tls.do_handshake:
                    tls.write(said)
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

    def test_a_handshake_that_cannot_be_read_is_refused(self):
        self.assertIn(b"200 OK", self.handshake("localhost", version=b"\x03\x01"))
        self.tls.seen.clear()
        self.assertEqual(self.handshake("evil.test", version=b"\x03\x04"), b"")
        self.assertEqual(self.tls.seen, [])

    def asked(self, text):
        """The first of the answer to what is said in a tunnel to the plain server."""
        raw = self.raw_tunnel(self.plain_port)
        raw.sendall(text.replace("PORT", str(self.plain_port)).encode())
        try:
            return raw.recv(1 << 16)[:12]
        except ConnectionError:
            return b""

    def test_a_request_in_a_tunnel_is_for_its_host_alone(self):
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
            # Servers differ in what they take these for.
            good.replace("\r\n\r\n", "\r\nX: a\rHost: evil.test\r\n\r\n"),
            good.replace("\r\n\r\n", "\r\nContent-Length: +0\r\n\r\n"),
        ]:
            # By the proxy or mitmproxy: the server would know the host, and not the method.
            self.assertIn(self.asked(bad)[9:], [b"", b"400", b"403"], bad)
        # Not one that is passed on because it looks like no request.
        self.assertEqual(self.asked("\r\n" + good), b"")
        self.assertEqual(self.plain.seen, [])

    def test_other_protocols_need_a_port_that_is_named(self):
        raw = self.raw_tunnel(self.plain_port)
        raw.sendall(b"SSH-2.0-test\r\n\r\n")
        # The server answers that this is no HTTP.
        self.assertIn(b"400", raw.recv(1 << 16))
        self.set_rules(mode="monitor")
        raw = self.raw_tunnel(self.plain_port)
        raw.sendall(b"SSH-2.0-test\r\n\r\n")
        self.assertEqual(raw.recv(1 << 16), b"")
        self.assertEqual(self.log(3)[-1]["reason"], "neither TLS nor HTTP")

    def test_monitor_sees_into_tls(self):
        self.set_rules(mode="monitor")
        status, _, text, issuer = self.tunnel("localhost", self.tls_port, ca=self.own_ca, path="/x?y")
        self.assertEqual((status, issuer), (200, "mitmproxy"))
        line = self.log(2)[1]
        self.assertEqual([line[key] for key in ("method", "path", "status", "bytes")], ["GET", "/x?y", 200, len(text)])
        self.assertEqual(self.tunnel("example.org", 443)[0], 403)

    def test_a_secret_goes_to_its_host_alone_and_does_not_come_back(self):
        self.set_rules(secrets=[SECRET])
        headers = {"Authorization": "Bearer placeholder-1", "X-Api-Key": "placeholder-1"}
        status, answered, text, issuer = self.tunnel("localhost", self.tls_port, ca=self.own_ca, headers=headers)
        self.assertEqual((status, issuer), (200, "mitmproxy"))
        self.assertIn("Bearer s3cr3t-value", self.tls.seen[-1])
        self.assertNotIn("s3cr3t-value", text + str(answered) + self.reason)
        self.assertEqual(self.reason, "placeholder-1")
        self.assertIn("Bearer placeholder-1", text)
        # Not without TLS, not to another host, and not in the log.
        _, text = self.get(f"http://localhost:{self.plain_port}/", headers)
        self.assertIn("Bearer placeholder-1", self.plain.seen[-1])
        _, text = self.get(f"http://127.0.0.1:{self.plain_port}/", headers)
        self.assertIn("Bearer placeholder-1", self.plain.seen[-1])
        self.assertNotIn("s3cr3t-value", json.dumps(self.log(4)))

    def upgraded(self, protocol, port):
        """All that comes back where an upgrade is asked for, in TLS that is looked into or without TLS."""
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

    def test_a_secret_does_not_come_back_by_websocket(self):
        self.set_rules(secrets=[SECRET])
        got = self.upgraded("websocket", self.tls_port)
        self.assertEqual(self.tls.seen, ["s3cr3t-value"])
        self.assertIn(b"X-Echo: placeholder-1\r\n", got)
        self.assertIn(b"said placeholder-1", got)
        self.assertNotIn(b"s3cr3t-value", got)

    def test_what_is_looked_into_is_upgraded_to_nothing_else(self):
        self.assertIn(b"said", self.upgraded("other", self.plain_port))
        before = len(self.log(2))
        self.set_rules(secrets=[SECRET])
        self.assertNotIn(b"said", self.upgraded("other", self.tls_port))
        self.assertEqual(self.tls.seen, ["s3cr3t-value"])
        line = self.log(before + 2)[-1]
        self.assertEqual((line["verdict"], line["reason"]), ("deny", "upgrade to a protocol other than WebSocket"))

    def test_git_sends_a_secret_as_basic_authorization(self):
        self.set_rules(secrets=[SECRET])
        encode = lambda said: "Basic " + base64.b64encode(said.encode()).decode()
        headers = {"Authorization": encode("me:placeholder-1")}
        self.assertEqual(self.tunnel("localhost", self.tls_port, ca=self.own_ca, headers=headers)[0], 200)
        self.assertIn(encode("me:s3cr3t-value"), self.tls.seen[-1])

    def test_rules_change_without_a_restart(self):
        url = f"http://127.0.0.1:{self.plain_port}/"
        for mode, allow, status in [("allowlist", [], 403), ("allowlist", None, 200), ("none", None, 403)]:
            self.set_rules(mode=mode, allow=allow)
            self.assertEqual(self.get(url)[0].status, status, mode)

    def test_a_name_of_other_letters_is_refused_by_the_one_it_is_listed_by(self):
        self.set_rules(mode="open", deny=[("xn--pp-eka.example", None)])
        self.assertEqual(self.tunnel("xn--pp-eka.example", 443)[0], 403)
        self.assertEqual(self.get("http://xn--pp-eka.example/")[0].status, 403)
        self.assertEqual([line["reason"] for line in self.log(2)], ["on the deny list"] * 2)
        # Control: another is let out, and found by nobody.
        self.assertEqual(self.get("http://xn--pp-eka.invalid/")[0].status, 502)

    def test_another_user_of_the_host_is_not_served(self):
        self.set_rules(peer_uid=os.getuid() + 1)
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.get(f"http://127.0.0.1:{self.plain_port}/")
        self.assertEqual(self.plain.seen, [])

    def test_open_lets_names_out_but_not_to_the_host(self):
        self.set_rules(mode="open", allow=[])
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/")[0].status, 403)
        self.assertEqual(self.get(f"http://localhost:{self.plain_port}/")[0].status, 403)
        self.assertEqual(self.tunnel("169.254.169.254", 80)[0], 403)
        # Let out, and found by nobody.
        self.assertEqual(self.get("http://nowhere.invalid/")[0].status, 502)


class Odd(Site):
    """Requests that no library foresees cost the connection that they came by, and no other."""

    def ask(self, connection, head):
        connection.settimeout(20)
        connection.sendall(head + b"\r\n\r\n")
        try:
            while connection.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        self.assertIsNone(self.proxy.poll(), (head, (self.place / "mitmdump.log").read_text()))

    def test_a_length_that_is_no_number_does_not_end_the_proxy(self):
        for length in [b"\xc2\xb2", b"\xd9\xa3", b"9" * 5000, b"-1", b"1e3", b"0x1", b"\xff", b"1, 1", b""]:
            for host in [b"127.0.0.1:%d" % self.plain_port, b"evil.test"]:
                with socket.create_connection(("127.0.0.1", self.port), 10) as raw:
                    head = b"GET http://%s/ HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %s"
                    self.ask(raw, head % (host, host, length))
        # Control: a number is taken.
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/", body="x")[0].status, 200)

    def test_credentials_that_are_none_do_not_end_the_proxy(self):
        self.set_rules(secrets=[SECRET])
        for said in [b"Basic \xc3\xa9", b"Basic \xff", b"Basic ====", b"Basic", b"\xc2\xb2 \xc2\xb2"]:
            raw = self.raw_tunnel(self.tls_port)
            with ssl.create_default_context(cafile=self.own_ca).wrap_socket(raw, server_hostname="localhost") as secured:
                host = b"localhost:%d" % self.tls_port
                self.ask(secured, b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nAuthorization: %s" % (host, said))
        # Control: what are some go through.
        plain = base64.b64encode(b"me:placeholder-1").decode()
        _, _, text, _ = self.tunnel("localhost", self.tls_port, ca=self.own_ca, headers={"Authorization": f"Basic {plain}"})
        self.assertIn(plain, text)
        self.assertIn(base64.b64encode(b"me:s3cr3t-value").decode(), self.tls.seen[-1])


class Ending(Site):
    """What ends the proxy, so that no connection outlives it."""

    def test_one_that_cannot_log_lets_nothing_through(self):
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
    def test_tunnels_end_with_the_rules_that_allowed_them(self):
        raw = self.raw_tunnel(self.tls_port)
        # Another change of the rules leaves it.
        self.set_rules(allow=[("localhost", self.tls_port)])
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/")[0].status, 403)
        self.assertIsNone(self.proxy.poll())
        self.set_rules(mode="none")
        self.assertEqual(raw.recv(1), b"")
        self.assertEqual(self.proxy.wait(10), 70)


class TighteningAfterAnUpgrade(Site):
    def test_what_was_upgraded_ends_with_the_rules_that_allowed_it(self):
        url = f"http://localhost:{self.plain_port}/"
        held = socket.create_connection(("127.0.0.1", self.port), 10)
        self.addCleanup(held.close)
        lines = [f"GET {url} HTTP/1.1", f"Host: localhost:{self.plain_port}", "Connection: Upgrade", "Upgrade: held"]
        held.sendall("\r\n".join([*lines, "", ""]).encode())
        got = b""
        while b"said" not in got:
            got += held.recv(1 << 16)
        # A request that was answered has come to its end, though its connection has not.
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
