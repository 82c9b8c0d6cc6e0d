"""The guest's ProxyCommand of ssh, against a small proxy."""

import socket
import subprocess
import threading
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent.parent / "policy/ssh-connect.sh"
REFUSAL = "403 refused.test:22 is refused; run on the host: agent-vm egress allow refused.test:22"


def serve(connection, requests):
    with connection, connection.makefile("rb") as lines:
        requests.append(lines.readline().decode())
        while lines.readline() != b"\r\n":
            pass
        if "refused" in requests[-1]:
            connection.sendall(f"HTTP/1.1 {REFUSAL}\r\n\r\n".encode())
            return
        connection.sendall(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nSSH-2.0-there\r\n")
        connection.sendall(b"got " + lines.readline())


class Connect(unittest.TestCase):
    def setUp(self):
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        self.port, self.requests = server.getsockname()[1], []

        def accept():
            serve(server.accept()[0], self.requests)

        threading.Thread(target=accept, daemon=True).start()

    def connect(self, host):
        command = ["bash", str(SCRIPT), str(self.port), host, "22"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdin.close)
        return process

    def test_both_directions_pass_and_the_end_is_noticed(self):
        process = self.connect("listed.test")
        process.stdin.write(b"SSH-2.0-here\r\n")
        process.stdin.flush()
        # The output ends with the connection, although the input is still open.
        self.assertEqual(process.stdout.read(), b"SSH-2.0-there\r\ngot SSH-2.0-here\r\n")
        self.assertEqual(self.requests, ["CONNECT listed.test:22 HTTP/1.1\r\n"])
        process.stdout.close()
        process.stderr.close()

    def test_an_address_of_ipv6_has_brackets(self):
        process = self.connect("2001:db8::1")
        process.communicate(b"SSH-2.0-here\r\n", timeout=60)
        self.assertEqual(self.requests, ["CONNECT [2001:db8::1]:22 HTTP/1.1\r\n"])

    def test_a_refusal_is_shown_with_the_command_that_allows_the_host(self):
        process = self.connect("refused.test")
        output, error = process.communicate(timeout=60)
        self.assertEqual((process.returncode, output, error.decode()), (1, b"", f"{REFUSAL}\n"))


if __name__ == "__main__":
    unittest.main()
