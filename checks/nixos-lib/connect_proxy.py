"""connect_proxy PORT runs an HTTP proxy on loopback that only knows CONNECT and prints each destination."""

import socket
import socketserver
import sys
import threading

CHUNK = 1 << 16


def copy(source: socket.socket, target: socket.socket) -> None:
    while data := source.recv(CHUNK):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


class Connection(socketserver.StreamRequestHandler):
    rbufsize = 0

    def handle(self) -> None:
        request = self.rfile.readline().decode().strip()
        if not request:
            # A connection without a request, from a port check.
            return
        while self.rfile.readline().strip():
            pass
        print(request, flush=True)
        method, target, _ = request.split()
        assert method == "CONNECT", request
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=copy, args=(far, self.connection))
            back.start()
            copy(self.connection, far)
            back.join()


class Proxy(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


Proxy(("127.0.0.1", int(sys.argv[1])), Connection).serve_forever()
