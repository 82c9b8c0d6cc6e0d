"""A server returns a secret in every part of a response: the guest never gets it, and it is never logged."""

import base64
import http.client
import json
import re
import socket
import ssl
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import scripted
from proxy_site import MITMDUMP, SECRET, Site
from scripted import frame, literals

VALUE, PLACEHOLDER = SECRET["value"].encode(), SECRET["placeholder"].encode()
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WEBSOCKET = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    # For the key in `ask`: RFC 6455, 1.3.
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)

# Malformed responses with the value in a place that mitmproxy's error messages quote.
MALFORMED = {
    "status line": b"VALUE\r\n\r\n",
    "status": b"HTTP/1.1 VALUE OK\r\n\r\n",
    "version": b"VALUE 200 OK\r\n\r\n",
    "header without a colon": OK + b"VALUE\r\n\r\n",
    "header without a name": OK + b": VALUE\r\n\r\n",
    "invalid header name": OK + b"a VALUE: b\r\nContent-Length: 0\r\n\r\n",
    "length": OK + b"Content-Length: VALUE\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: VALUE\r\n\r\n",
    "transfer encoding": OK + b"Transfer-Encoding: VALUE\r\n\r\n",
    "both": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\nX: VALUE\r\n\r\n0\r\n\r\n",
    "cut off": b"VALUE",
    "cut off in a header": OK + b"X: VALUE",
    "chunk": CHUNKED + b"VALUE\r\n",
    "chunk after another": CHUNKED + b"1\r\na\r\nVALUE\r\n",
    "chunk's end": CHUNKED + b"1\r\naVALUE",
    "trailer without a colon": CHUNKED + b"1\r\na\r\n0\r\nVALUE\r\n\r\n",
}
# Well-formed responses.
CARRIERS = {
    "reason": b"HTTP/1.1 200 VALUE\r\nContent-Length: 0\r\n\r\n",
    "header": OK + b"X: VALUE\r\nContent-Length: 0\r\n\r\n",
    "name of a header": OK + b"X-VALUE: 1\r\nContent-Length: 0\r\n\r\n",
    "folded header": OK + b"X: a\r\n VALUE\r\nContent-Length: 0\r\n\r\n",
    "cookie": OK + b"Set-Cookie: a=VALUE; Path=/\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: https://evil.test/?VALUE\r\nContent-Length: 0\r\n\r\n",
    "body": OK + b"Content-Length: LENGTH\r\n\r\nVALUE",
    "body until the end": OK + b"\r\nVALUE",
    "chunk extension": CHUNKED + b"1;VALUE\r\na\r\n0\r\n\r\n",
    "trailer": CHUNKED + b"1\r\na\r\n0\r\nX: VALUE\r\n\r\n",
    "early hints": b"HTTP/1.1 103 VALUE\r\nLink: VALUE\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "data after the response": OK + b"Content-Length: 0\r\n\r\nVALUE",
    "close reason": WEBSOCKET + bytes([0x88, 2 + len(VALUE)]) + b"\x03\xe8VALUE",
    "ping": WEBSOCKET + bytes([0x89, len(VALUE)]) + b"VALUE" + b"\x88\x02\x03\xe8",
    "pong": WEBSOCKET + bytes([0x8A, len(VALUE)]) + b"VALUE" + b"\x88\x02\x03\xe8",
    "message in fragments": WEBSOCKET
    + bytes([0x01, 3]) + VALUE[:3] + bytes([0x00, 4]) + VALUE[3:7] + bytes([0x80, len(VALUE) - 7]) + VALUE[7:]
    + b"\x88\x02\x03\xe8",
    "invalid frame": WEBSOCKET + bytes([0xF3, len(VALUE)]) + b"VALUE",
}


def with_value(answer, value):
    return answer.replace(b"VALUE", value).replace(b"LENGTH", str(len(value)).encode())


class Hostile(Site):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()

        def context():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cls.place / "leaf.pem", cls.place / "leaf.key")
            return context

        cls.server = scripted.Scripted(cls, context())
        cls.server2 = scripted.Scripted(cls, context(), ("h2",))

    def setUp(self):
        super().setUp()
        ports = [self.server.port, self.server2.port]
        self.set_rules(
            allow=[("localhost", port) for port in ports], secrets=[{**SECRET, "port": port} for port in ports]
        )
        self.server.hold.clear()

    def inside(self, port, *protocols):
        """Returns a connection through the proxy, with TLS intercepted."""
        context = ssl.create_default_context(cafile=self.own_ca)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        secured = context.wrap_socket(self.raw_tunnel(port), server_hostname="localhost")
        self.addCleanup(secured.close)
        secured.settimeout(20)
        return secured

    def rest(self, connection):
        got = b""
        try:
            while piece := connection.recv(1 << 16):
                got += piece
        except (ConnectionError, ssl.SSLError):
            pass
        return got

    def ask(self, *answer, method="GET", version="1.1", more=()):
        """Returns everything the proxy sends for a request that the server answers with these pieces."""
        self.server.answer = list(answer)
        connection = self.inside(self.server.port)
        lines = [
            f"{method} / HTTP/{version}",
            f"Host: localhost:{self.server.port}",
            "X-Api-Key: placeholder-1",
            *more,
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return self.rest(connection)

    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip

    def logged(self):
        return (self.place / "log" / "egress.jsonl").read_bytes() + (self.place / "mitmdump.log").read_bytes()

    def test_malformed_responses_do_not_return_the_value(self):
        for name, answer in MALFORMED.items():
            with self.subTest(name):
                got = self.ask(with_value(answer, VALUE))
                self.assertNotIn(VALUE, got)
                # Either an error response, or the head of a response without the rest.
                self.assertTrue(b" 502 " in got or b" 200 " in got, got)
                if b" 502 " in got:
                    self.assertRegex(got, rb"\r\n\r\nagent-vm: (the server's answer is malformed|malformed HTTP)\n")
        reasons = [line["reason"] for line in self.log(2 * len(MALFORMED)) if line["method"] == "GET"]
        self.assertLessEqual({"the server's answer is malformed", "malformed HTTP"}, set(reasons), reasons)
        self.assertNotIn(VALUE, self.logged())
        # Control: the logs are not empty.
        self.assertIn(b"/", self.logged())

    def test_well_formed_responses_do_not_return_the_value(self):
        for name, answer in CARRIERS.items():
            is_websocket = answer.startswith(WEBSOCKET)
            more = self.upgrade if is_websocket else ["Connection: close"]
            with self.subTest(name):
                got = self.ask(with_value(answer, VALUE), more=more)
                self.assertNotIn(VALUE, got)
                self.assertRegex(got, rb"^HTTP/1.1 (101|103|200|302) ")
                # Control: another value is passed on unchanged, except in parts that the proxy drops.
                other = self.ask(with_value(answer, b"another-word"), more=more)
                dropped = {"chunk extension", "trailer", "data after the response", "invalid frame", "message in fragments"}
                self.assertTrue(b"another-word" in other.lower() or name in dropped, other)
        self.assertNotIn(VALUE, self.logged())

    def test_trailers_are_dropped(self):
        got = self.ask(CHUNKED + b"1\r\na\r\n0\r\nX: y\r\n\r\n", more=["Connection: close"])
        self.assertTrue(got.endswith(b"1\r\na\r\n0\r\n\r\n"), got)

    def test_encoded_basic_authorization_is_not_returned(self):
        encode = lambda data: base64.b64encode(data)
        sent = encode(b"me:" + VALUE)
        self.server.answer = [OK + b"X: Basic " + sent + b"\r\nContent-Length: %d\r\n\r\n" % len(sent) + sent]
        connection = self.inside(self.server.port)
        basic = encode(b"me:" + PLACEHOLDER)
        head = f"GET / HTTP/1.1\r\nHost: localhost:{self.server.port}\r\nConnection: close\r\nAuthorization: Basic "
        connection.sendall(head.encode() + basic + b"\r\n\r\n")
        got = self.rest(connection)
        self.assertNotIn(sent, got)
        self.assertEqual(got.count(basic), 2, got)

    def test_bodies_are_complete_for_every_division_into_pieces(self):
        begun = VALUE[:-1]
        body = b"a" + VALUE + begun + b"b" + VALUE[:3] + VALUE + begun
        expected = body.replace(VALUE, PLACEHOLDER)
        chunk = lambda piece: b"%x\r\n%s\r\n" % (len(piece), piece)
        plain = OK + b"Content-Length: %d\r\n\r\n" % len(body)
        for cut in range(1, len(body)):
            parts = body[:cut], body[cut:]
            with self.subTest(cut):
                got = self.ask(CHUNKED, *map(chunk, parts), b"0\r\n\r\n", more=["Connection: close"])
                self.assertEqual(dechunked(got), expected)
                got = self.ask(plain, *parts, more=["Connection: close"])
                self.assertEqual(dechunked(got), expected)
        # One byte a piece: the proxy holds back most of them.
        got = self.ask(CHUNKED, *(chunk(body[i : i + 1]) for i in range(len(body))), b"0\r\n\r\n", more=["Connection: close"])
        self.assertEqual(dechunked(got), expected)
        got = self.ask(OK + b"\r\n", *(body[i : i + 1] for i in range(len(body))))
        self.assertEqual(got.partition(b"\r\n\r\n")[2], expected)

    def test_responses_without_a_body_stay_without_one(self):
        for status, method in ((b"304 Not Modified", "GET"), (b"204 No Content", "GET"), (b"200 OK", "HEAD")):
            # Clients would parse a body as the next response on the connection.
            got = self.ask(
                b"HTTP/1.1 " + status + b"\r\nContent-Length: 7\r\n\r\n", method=method, more=["Connection: close"]
            )
            self.assertEqual(got.partition(b"\r\n\r\n")[2], b"", got)
            self.assertNotIn(b"chunked", got.lower())

    def test_http_1_0_responses_are_not_chunked(self):
        got = self.ask(OK + b"Content-Length: %d\r\n\r\n" % len(VALUE) + VALUE, version="1.0")
        self.assertNotIn(b"chunked", got.lower())
        self.assertEqual(got.partition(b"\r\n\r\n")[2], PLACEHOLDER)

    def ask2(self, *answer):
        """Returns all frames of the response over HTTP/2, and their header fields and body."""
        self.server2.answer = list(answer)
        connection = self.inside(self.server2.port, "h2")
        self.assertEqual(connection.selected_alpn_protocol(), "h2")
        fields = [
            (":method", "GET"), (":scheme", "https"), (":path", "/"),
            (":authority", f"localhost:{self.server2.port}"), ("x-api-key", "placeholder-1"),
        ]  # fmt: skip
        connection.sendall(
            scripted.PREFACE + frame(scripted.SETTINGS, 0, 0, b"")
            + frame(scripted.HEADERS, scripted.END_HEADERS | scripted.END_STREAM, 1, literals(*fields))
        )  # fmt: skip
        got = b""
        # Until the stream or the connection has ended.
        while not any(
            kind in (scripted.RESET, scripted.GOAWAY)
            or stream == 1 and flags & scripted.END_STREAM and kind in (scripted.DATA, scripted.HEADERS)
            for kind, flags, stream, _ in scripted.frames(got)
        ):  # fmt: skip
            piece = connection.recv(1 << 16)
            if not piece:
                break
            got += piece
        body = b"".join(payload for kind, _, _, payload in scripted.frames(got) if kind == scripted.DATA)
        return got, scripted.fields_of(MITMDUMP, got), body

    def test_http_2_responses_do_not_return_the_value(self):
        headers = lambda *more, flags=0: frame(
            scripted.HEADERS, scripted.END_HEADERS | flags, 1, literals((":status", "200"), *more)
        )
        data = lambda piece, flags=0: frame(scripted.DATA, flags, 1, piece)
        value = VALUE.decode()
        end = scripted.END_STREAM
        good = {
            "header": [headers(("x", value), flags=end)],
            "name": [headers((f"x-{value}", "1"), flags=end)],
            "body": [headers(), data(VALUE, end)],
            "trailer": [headers(), data(b"a"), frame(scripted.HEADERS, 5, 1, literals(("x", value)))],
            "hints": [
                frame(scripted.HEADERS, 4, 1, literals((":status", "103"), ("link", value))),
                headers(flags=end),
            ],
        }
        bad = {
            "status": [frame(scripted.HEADERS, 5, 1, literals((":status", value)))],
            "pseudo header": [frame(scripted.HEADERS, 5, 1, literals((":status", "200"), (f":{value}", "1")))],
            "capitals": [headers((f"X-{value}", value), flags=end)],
            "length": [headers(("content-length", value), flags=end)],
            "going away": [frame(scripted.GOAWAY, 0, 0, bytes(8) + VALUE)],
            "reset": [frame(scripted.RESET, 0, 1, VALUE[:4])],
            "push": [frame(scripted.PUSH, 4, 1, b"\0\0\0\2" + literals((":path", value)))],
            "unknown frame": [frame(0x77, 0, 1, VALUE), headers(flags=end)],
            "no HTTP/2": [VALUE * 3],
        }
        for name, answer in {**good, **bad}.items():
            with self.subTest(name):
                got, fields, body = self.ask2(*answer)
                self.assertNotIn(VALUE, got)
                self.assertNotIn(VALUE, fields)
                if name in good:
                    self.assertIn(b"200", fields)
                if name in ("header", "trailer"):
                    self.assertIn(PLACEHOLDER, fields)
        self.assertNotIn(VALUE, self.logged())

    def test_http_2_bodies_are_complete_for_every_division_into_frames(self):
        body = b"a" + VALUE + VALUE[:-1] + VALUE[:2] + VALUE
        data = lambda piece, flags=0: frame(scripted.DATA, flags, 1, piece)
        head = frame(scripted.HEADERS, scripted.END_HEADERS, 1, literals((":status", "200")))
        for cut in range(len(body) + 1):
            # An empty frame does not end the body.
            pieces = [head, data(body[:cut]), data(b""), data(body[cut:]), data(b"", scripted.END_STREAM)]
            with self.subTest(cut):
                self.assertEqual(self.ask2(*pieces)[2], body.replace(VALUE, PLACEHOLDER))

    def test_another_port_of_the_host_gets_no_secret_and_is_not_intercepted(self):
        self.set_rules(
            allow=[("localhost", self.server.port), ("localhost", self.tls_port)],
            secrets=[{**SECRET, "port": self.server.port}],
        )
        status, _, text, issuer = self.tunnel("localhost", self.tls_port, headers={"X-Api-Key": "placeholder-1"})
        self.assertEqual((status, issuer), (200, "test"))
        self.assertEqual(json.loads(text)["headers"]["X-Api-Key"], "placeholder-1")
        # Control: the secret's own port gets it.
        answer = OK + b"X: " + VALUE + b"\r\nContent-Length: 0\r\n\r\n"
        self.assertIn(PLACEHOLDER, self.ask(answer, more=["Connection: close"]))


def dechunked(answer):
    """Returns the body of a response; fails if it is incomplete."""

    class Answer:
        def makefile(self, _):
            import io

            return io.BytesIO(answer)

    read = http.client.HTTPResponse(Answer())
    read.begin()
    return read.read()


if __name__ == "__main__":
    unittest.main()
