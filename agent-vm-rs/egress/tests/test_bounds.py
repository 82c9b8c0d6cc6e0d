"""The proxy survives a guest that opens too many connections, sends nothing, or sends endless lines."""

import http.client
import resource
import socket
import sys
import threading
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from proxy_site import Site

MANY = 1100
ENDLESS = 64 << 20


class Bounds(Site):
    def setUp(self):
        super().setUp()
        self.set_rules(allow=[("127.0.0.1", self.plain_port), ("localhost", self.plain_port)])

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), 20)
        self.addCleanup(connection.close)
        return connection

    def works(self):
        self.assertIsNone(self.proxy.poll())
        # A new connection is served.
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/")[0].status, 200)

    def resident(self):
        """Returns the proxy's resident memory in bytes."""
        for line in Path(f"/proc/{self.proxy.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) << 10

    def test_connections_beyond_the_limit_are_refused_and_the_others_continue(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.works()
        held = self.raw_tunnel(self.plain_port)
        idle = [self.connect() for _ in range(MANY)]
        refused = 0
        for connection in idle:
            connection.settimeout(0.01)
            try:
                refused += connection.recv(1) == b""
            except ConnectionResetError:
                refused += 1
            except TimeoutError:
                pass
        self.assertGreater(refused, MANY // 2)
        self.assertLess(refused, MANY)
        self.assertEqual(self.log(0)[-1]["reason"], "too many connections are open")
        # The connection that was open before is still served.
        held.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{self.plain_port}\r\n\r\n".encode())
        self.assertIn(b"200 OK", held.recv(1 << 16))
        for connection in idle:
            connection.close()
        deadline = time.monotonic() + 20
        while True:
            try:
                self.works()
                return
            except (OSError, AssertionError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def pour(self, connection, begin, piece):
        """Sends `begin` and then `piece` repeatedly; returns the response received before the connection closes."""
        connection.sendall(begin)
        before = self.resident()
        most = 0

        def send():
            try:
                for _ in range(ENDLESS // len(piece)):
                    connection.sendall(piece)
            except OSError:
                pass

        sender = threading.Thread(target=send)
        sender.start()
        got = b""
        try:
            while new := connection.recv(1 << 16):
                got += new
                most = max(most, self.resident())
        except OSError:
            pass
        sender.join()
        self.assertLess(max(most, self.resident()) - before, ENDLESS // 4)
        self.works()
        return got

    def test_request_heads_have_a_maximal_size(self):
        piece = b"x" * 65536
        self.pour(self.connect(), b"", piece)
        begin = f"GET http://127.0.0.1:{self.plain_port}/ HTTP/1.1\r\nX: ".encode()
        self.pour(self.connect(), begin, piece)
        self.pour(self.connect(), begin, b"x\r\nX: " * 10_000)
        self.pour(self.raw_tunnel(self.plain_port), b"GET / HTTP/1.1\r\nX: ", piece)
        self.pour(self.connect(), b"CONNECT ", piece)
        # A client that stops sending gets status 431.
        client = self.connect()
        client.sendall(begin + b"x" * 300_000)
        self.assertIn(b" 431 ", client.recv(1 << 16))

    def test_a_long_request_head_is_accepted(self):
        cookie = {"Cookie": "a" * 60_000}
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/", cookie)[0].status, 200)

    def test_chunk_headers_have_a_maximal_size(self):
        head = f"POST http://127.0.0.1:{self.plain_port}/ HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.pour(self.connect(), head.encode() + b"1;", b"x" * 65536)

    def test_pipelined_requests_have_a_maximal_size(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        port = listener.getsockname()[1]
        self.set_rules(allow=[("127.0.0.1", port), ("127.0.0.1", self.plain_port)])
        request = f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        # The server accepts the first request and never responds.
        self.pour(self.connect(), request, request * 1000)

    def test_client_hellos_have_a_maximal_size(self):
        # Records of a handshake message with a length of 16 MiB.
        record = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + b"\x03" * (0x4000 - 4)
        more = b"\x16\x03\x01\x40\x00" + b"\x03" * 0x4000
        self.assertEqual(self.pour(self.raw_tunnel(self.plain_port), record, more), b"")
        self.assertEqual(self.log(0)[-2]["reason"], "invalid TLS handshake")


class Timeouts(Site):
    script = Path(__file__).with_name("short_timeout.py")

    def ended(self, connection, every=None):
        """Returns the seconds until the proxy closes a connection. With `every`, sends a byte that often (in seconds)."""
        began = time.monotonic()
        connection.settimeout(every or 20)
        while True:
            try:
                if connection.recv(1 << 16) == b"":
                    return time.monotonic() - began
            except TimeoutError:
                if every is None or time.monotonic() - began > 20:
                    raise
            except ConnectionError:
                return time.monotonic() - began
            try:
                if every:
                    connection.sendall(b"x")
            except ConnectionError:
                return time.monotonic() - began

    def test_idle_and_slow_connections_are_closed(self):
        self.assertLess(self.ended(socket.create_connection(("127.0.0.1", self.port), 20)), 15)
        self.assertLess(self.ended(self.raw_tunnel(self.plain_port)), 15)
        slow = socket.create_connection(("127.0.0.1", self.port), 20)
        slow.sendall(b"GET ")
        self.assertLess(self.ended(slow, every=0.2), 15)
        # In a tunnel, after a complete request.
        slow = self.raw_tunnel(self.plain_port)
        slow.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{self.plain_port}\r\n\r\n".encode())
        self.assertIn(b"200 OK", slow.recv(1 << 16))
        slow.sendall(b"GET ")
        self.assertLess(self.ended(slow, every=0.2), 15)
        self.assertIsNone(self.proxy.poll())

    def test_a_connection_may_be_idle_between_requests(self):
        kept = self.raw_tunnel(self.plain_port)

        def ask():
            kept.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{self.plain_port}\r\n\r\n".encode())
            answer = http.client.HTTPResponse(kept)
            answer.begin()
            answer.read()
            return answer.status

        self.assertEqual(ask(), 200)
        # Wait longer than the timeout of an idle connection.
        self.assertLess(self.ended(socket.create_connection(("127.0.0.1", self.port), 20)), 15)
        self.assertEqual(ask(), 200)


if __name__ == "__main__":
    unittest.main()
