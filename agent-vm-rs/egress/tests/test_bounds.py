"""A guest that opens connections without end, says nothing, or never comes to the end of a line: the proxy stays."""

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
        # With a connection that is none of those before.
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/")[0].status, 200)

    def resident(self):
        """Memory that the proxy has, bytes."""
        for line in Path(f"/proc/{self.proxy.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) << 10

    def test_connections_beyond_the_most_are_refused_and_the_others_go_on(self):
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
        # What was open before is served.
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
        """Says one thing again and again; gives what is answered before the connection ends."""
        connection.sendall(begin)
        before = self.resident()
        most = 0

        def say():
            try:
                for _ in range(ENDLESS // len(piece)):
                    connection.sendall(piece)
            except OSError:
                pass

        said = threading.Thread(target=say)
        said.start()
        got = b""
        try:
            while new := connection.recv(1 << 16):
                got += new
                most = max(most, self.resident())
        except OSError:
            pass
        said.join()
        self.assertLess(max(most, self.resident()) - before, ENDLESS // 4)
        self.works()
        return got

    def test_heads_come_to_an_end(self):
        piece = b"x" * 65536
        self.pour(self.connect(), b"", piece)
        begin = f"GET http://127.0.0.1:{self.plain_port}/ HTTP/1.1\r\nX: ".encode()
        self.pour(self.connect(), begin, piece)
        self.pour(self.connect(), begin, b"x\r\nX: " * 10_000)
        self.pour(self.raw_tunnel(self.plain_port), b"GET / HTTP/1.1\r\nX: ", piece)
        self.pour(self.connect(), b"CONNECT ", piece)
        # Who says no more than that is told.
        told = self.connect()
        told.sendall(begin + b"x" * 300_000)
        self.assertIn(b" 431 ", told.recv(1 << 16))

    def test_a_head_that_is_long_but_not_endless_is_taken(self):
        cookie = {"Cookie": "a" * 60_000}
        self.assertEqual(self.get(f"http://127.0.0.1:{self.plain_port}/", cookie)[0].status, 200)

    def test_chunks_headers_come_to_an_end(self):
        head = f"POST http://127.0.0.1:{self.plain_port}/ HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.pour(self.connect(), head.encode() + b"1;", b"x" * 65536)

    def test_requests_that_wait_come_to_an_end(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        port = listener.getsockname()[1]
        self.set_rules(allow=[("127.0.0.1", port), ("127.0.0.1", self.plain_port)])
        request = f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        # The server takes the first and never answers.
        self.pour(self.connect(), request, request * 1000)

    def test_hellos_come_to_an_end(self):
        # Records of a handshake message that says it is of 16 MiB.
        record = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + b"\x03" * (0x4000 - 4)
        more = b"\x16\x03\x01\x40\x00" + b"\x03" * 0x4000
        self.assertEqual(self.pour(self.raw_tunnel(self.plain_port), record, more), b"")
        self.assertEqual(self.log(0)[-2]["reason"], "invalid TLS handshake")


class Patience(Site):
    script = Path(__file__).with_name("hasty.py")

    def ended(self, connection, every=None):
        """Seconds until the proxy ends a connection, on which a byte is said now and then."""
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

    def test_who_says_nothing_or_little_is_not_waited_for(self):
        self.assertLess(self.ended(socket.create_connection(("127.0.0.1", self.port), 20)), 15)
        self.assertLess(self.ended(self.raw_tunnel(self.plain_port)), 15)
        slow = socket.create_connection(("127.0.0.1", self.port), 20)
        slow.sendall(b"GET ")
        self.assertLess(self.ended(slow, every=0.2), 15)
        # In a tunnel, and after a request that was answered.
        slow = self.raw_tunnel(self.plain_port)
        slow.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{self.plain_port}\r\n\r\n".encode())
        self.assertIn(b"200 OK", slow.recv(1 << 16))
        slow.sendall(b"GET ")
        self.assertLess(self.ended(slow, every=0.2), 15)
        self.assertIsNone(self.proxy.poll())

    def test_what_is_served_may_rest(self):
        kept = self.raw_tunnel(self.plain_port)

        def ask():
            kept.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{self.plain_port}\r\n\r\n".encode())
            answer = http.client.HTTPResponse(kept)
            answer.begin()
            answer.read()
            return answer.status

        self.assertEqual(ask(), 200)
        # Longer than the one that says nothing is given.
        self.assertLess(self.ended(socket.create_connection(("127.0.0.1", self.port), 20)), 15)
        self.assertEqual(ask(), 200)


if __name__ == "__main__":
    unittest.main()
