"""The host's own proxy, in a real mitmproxy: what goes through it, and what the guest learns of it."""

import http.client
import json
import socket
import sys
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import host_proxy_stand_in
from proxy_site import SECRET, Site

USER, PASSWORD = "me", "kept:on the host"
# No resolver has it; the certificate does.
NAME = "evil.test"


class Upstream(Site):
    @classmethod
    def setUpClass(cls):
        cls.seen = []
        cls.stand_in = host_proxy_stand_in.serve("127.0.0.1", USER, PASSWORD, lambda line: cls.seen.append(line))
        threading.Thread(target=cls.stand_in.serve_forever, daemon=True).start()
        cls.addClassCleanup(cls.stand_in.shutdown)
        cls.own = cls.stand_in.server_address[1]
        super().setUpClass()

    def setUp(self):
        super().setUp()
        self.seen.clear()
        self.goes()

    def goes(self, password=PASSWORD, port=None, direct=(), allow=((NAME, None),), **rules):
        """Sets rules with the stand-in as the host's proxy."""
        allow = [(host, port) for host, _ in allow for port in (self.plain_port, self.tls_port)]
        upstream = {"secure": False, "host": "127.0.0.1", "port": port or self.own, "user": USER}
        self.set_rules(allow=allow, upstream={**upstream, "password": password, "direct": list(direct)}, **rules)

    def reveals_nothing(self, text):
        log = (self.place / "log" / "egress.jsonl").read_text() + (self.place / "mitmdump.log").read_text()
        for word in [PASSWORD, "bWU6a2VwdDpvbiB0aGUgaG9zdA", "stand-in.corp", f"127.0.0.1:{self.own}"]:
            self.assertNotIn(word, text)
            self.assertNotIn(word, log)

    def test_tunnels_and_requests_go_through_it_with_the_password(self):
        status, headers, text, issuer = self.tunnel(NAME, self.tls_port, path="/through")
        self.assertEqual((status, json.loads(text)["path"], issuer), (200, "/through", "test"))
        self.assertEqual(self.seen, [f"CONNECT {NAME}:{self.tls_port} with password"])
        answer, text = self.get(f"http://{NAME}:{self.plain_port}/plain", {"Proxy-Authorization": "Basic guest"})
        self.assertEqual((answer.status, json.loads(text)["path"]), (200, "/plain"))
        self.assertEqual(self.seen[1:], [f"GET http://{NAME}:{self.plain_port}/plain with password"])
        self.assertEqual([line["verdict"] for line in self.log(2)], ["allow", "allow"])
        self.reveals_nothing("")

    def test_intercepted_tls_goes_through_it(self):
        secret = {**SECRET, "host": NAME}
        self.goes(secrets=[secret])
        status, _, text, issuer = self.tunnel(NAME, self.tls_port, ca=self.own_ca, headers={"X-Api-Key": "placeholder-1"})
        self.assertEqual((status, issuer), (200, "mitmproxy"))
        self.assertIn("s3cr3t-value", self.tls.seen[0])
        self.assertIn("placeholder-1", text)
        self.assertEqual(self.seen, [f"CONNECT {NAME}:{self.tls_port} with password"])

    def test_a_wrong_password_is_refused_and_the_guest_learns_nothing_else(self):
        for password in ["wrong", None]:
            self.goes(password=password)
            status, _, text, _ = self.tunnel(NAME, self.tls_port)
            self.assertEqual(status, 502)
            self.assertIn(f"cannot connect to {NAME}:{self.tls_port}: the host's proxy refused the connection (407)", text)
            self.reveals_nothing(text)
            answer, text = self.get(f"http://{NAME}:{self.plain_port}/")
            self.assertEqual(answer.status, 502)
            self.assertIn("the host's proxy refused the connection (407)", text)
            self.reveals_nothing(text + str(answer.headers))
        self.assertEqual(len(self.seen), 4)
        self.assertEqual(self.tls.seen + self.plain.seen, [])

    def test_no_refused_name_reaches_it(self):
        for host in ["refused.test", "10.0.0.1", "localhost"]:
            self.assertEqual(self.tunnel(host, self.tls_port)[0], 403, host)
            self.assertEqual(self.get(f"http://{host}:{self.plain_port}/")[0].status, 403, host)
        # Nor another port, and nothing in the mode `none`.
        self.assertEqual(self.tunnel(NAME, 22)[0], 403)
        self.goes(mode="none")
        self.assertEqual(self.tunnel(NAME, self.tls_port)[0], 403)
        # In the mode `open`, a name that this host cannot look up may be one of the host's network.
        self.goes(mode="open", allow=())
        self.assertEqual(self.tunnel("other.test", self.tls_port)[0], 502)
        self.assertEqual(self.seen, [])
        # Control: a public address.
        self.assertEqual(self.get(f"http://93.184.215.14:{self.plain_port}/")[0].status, 200)
        self.assertEqual(self.seen, [f"GET http://93.184.215.14:{self.plain_port}/ with password"])

    def test_no_proxy_is_left_out(self):
        for entry in [NAME, "test", ".test", "*.test", f"{NAME}:{self.tls_port}", "*"]:
            self.goes(direct=["localhost", entry])
            status, _, text, _ = self.tunnel(NAME, self.tls_port)
            # It is looked up here.
            self.assertEqual(status, 502, entry)
            self.assertRegex(text, "unknown host name|lookup failed|no address")
        self.assertEqual(self.seen, [])
        # A listed address of this host is the host's, not the proxy's.
        self.goes(allow=[("127.0.0.1", None)])
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/")[0].status, 200)
        self.assertEqual(self.seen, [])
        for entry in ["other.test", "vil.test", f"{NAME}:1", "10.0.0.0/8", ""]:
            self.goes(direct=[entry])
            self.assertEqual(self.tunnel(NAME, self.tls_port)[0], 200, entry)
        self.assertEqual(len(self.seen), 5)

    def test_the_guest_does_not_reach_it(self):
        allow = [("127.0.0.1", self.own), ("127.0.0.1", self.plain_port)]
        upstream = {"secure": False, "host": "127.0.0.1", "port": self.own, "user": USER, "password": PASSWORD, "direct": []}
        self.set_rules(mode="open", allow=allow, upstream=upstream)
        self.assertEqual(self.tunnel("127.0.0.1", self.own)[0], 403)
        answer, text = self.get(f"http://127.0.0.1:{self.own}/")
        self.assertEqual((answer.status, self.seen), (403, []))
        self.assertNotIn("proxy", text.lower())
        # Control: another listed port of the same address.
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/")[0].status, 200)

    def test_a_tunnel_after_a_request_does_not_lead_to_it(self):
        raw = socket.create_connection(("127.0.0.1", self.port), 10)
        self.addCleanup(raw.close)
        host = f"{NAME}:{self.plain_port}"
        raw.sendall(f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(raw)
        answer.begin()
        self.assertEqual(answer.status, 200)
        answer.read()
        raw.sendall(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(raw, method="CONNECT")
        answer.begin()
        self.assertEqual(answer.status, 200)
        raw.sendall(f"GET /inside HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(raw)
        answer.begin()
        self.assertEqual(json.loads(answer.read())["path"], "/inside")
        self.assertEqual(self.seen, [f"GET http://{host}/ with password", f"CONNECT {host} with password"])

    def test_an_upgrade_needs_a_tunnel(self):
        upgrade = {"Connection": "Upgrade", "Upgrade": "held"}
        answer, _ = self.get(f"http://{NAME}:{self.plain_port}/", upgrade)
        self.assertEqual(answer.status, 200)
        # Control: without the host's proxy, the server upgrades.
        self.set_rules()
        raw = self.raw_tunnel(self.plain_port)
        raw.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{self.plain_port}\r\nConnection: Upgrade\r\nUpgrade: held\r\n\r\n".encode())
        self.assertTrue(raw.recv(100).startswith(b"HTTP/1.1 101"))

    def test_a_proxy_that_repeats_the_request_does_not_reveal_the_password(self):
        host = f"{NAME}:{self.plain_port}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        self.addCleanup(connection.close)
        connection.request("TRACE", f"http://{host}/", headers={"Max-Forwards": "0", "Host": host})
        answer = connection.getresponse()
        text = answer.read().decode()
        self.assertEqual(self.seen, [f"TRACE http://{host}/ with password"])
        # Control: the answer has what the request had.
        self.assertIn("proxy-authorization: Basic *", text)
        self.assertNotIn("Max-Forwards", text)
        self.log()
        self.reveals_nothing(text + str(answer.headers))

    def test_a_proxy_that_is_gone_is_named_as_the_hosts(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.goes(port=port)
        status, _, text, _ = self.tunnel(NAME, self.tls_port)
        self.assertEqual(status, 502)
        self.assertIn("the host's proxy cannot be reached", text)
        self.assertNotIn(str(port), text)


if __name__ == "__main__":
    unittest.main()
