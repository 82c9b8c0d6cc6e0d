"""A stand-in for the host's proxy, with a password. Every destination leads to its own address.

As a program: host_proxy_stand_in.py ADDRESS USER PASSWORD prints its port, and then one line for each request.
"""

import base64
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def parse_request(self):
        if not super().parse_request():
            return False
        given = self.headers.get("Proxy-Authorization", "")
        self.server.note(f"{self.command} {self.path} {'with' if given == self.server.wanted else 'without'} password")
        if given != self.server.wanted:
            body = b"stand-in.corp wants a password"
            self.send_response(407)
            self.send_header("Proxy-Authenticate", 'Basic realm="stand-in.corp"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return False
        return True

    def do_CONNECT(self):
        port = int(self.path.rpartition(":")[2])
        with socket.create_connection((self.server.server_address[0], port), 10) as server:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\nVia: stand-in.corp\r\n\r\n")
            threading.Thread(target=pump, args=(server, self.connection), daemon=True).start()
            pump(self.connection, server)
        self.close_connection = True

    def do_TRACE(self):
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repeated", self.headers["Proxy-Authorization"])
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        with socket.create_connection((self.server.server_address[0], url.port or 80), 10) as server:
            lines = [f"{name}: {value}" for name, value in self.headers.items() if name.lower() != "connection"]
            head = "\r\n".join([f"GET {url.path} HTTP/1.1", *lines, "Connection: close", "", ""])
            server.sendall(head.encode())
            while data := server.recv(65536):
                self.wfile.write(data)
        self.close_connection = True

    def log_message(self, *_):
        pass


def serve(address, user, password, note):
    server = ThreadingHTTPServer((address, 0), Handler)
    server.wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    server.note = note
    return server


if __name__ == "__main__":
    server = serve(*sys.argv[1:4], lambda line: print(line, flush=True))
    print(server.server_address[1], flush=True)
    server.serve_forever()
