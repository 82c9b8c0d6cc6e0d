"""tls_echo.py DIR ADDRESS: an HTTPS server that answers with the request that it received.

Prints its port. DIR/ca.pem is the authority of its certificate. Each request is appended to DIR/seen.
"""

import json
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

directory, address = Path(sys.argv[1]), sys.argv[2]


class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, "headers": dict(self.headers)}).encode()
        with open(directory / "seen", "ab") as seen:
            seen.write(body + b"\n")
        self.send_response(404 if "git" in self.path else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


openssl(*"req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=test".split())
openssl(*"req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=echo".split())
(directory / "extensions").write_text(f"subjectAltName=IP:{address}\n")
openssl(*"x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -extfile extensions".split())
server = ThreadingHTTPServer((address, 0), Echo)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(directory / "leaf.pem", directory / "leaf.key")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
