"""Serves the git repositories below a directory over https, for users with the password in AGENT_VM_TEST_PASSWORD.

    serve_git.py DIRECTORY CERTIFICATE KEY

It prints its port, and logs the user name of each request with a password. Everyone may read the repositories in `public`.
`moved/PATH` is a redirect to `public/PATH`, and `lost/HOST/PATH` one to another host.
"""

import base64
import os
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT, CERTIFICATE, KEY = sys.argv[1:]


class Git(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def user(self) -> str | None:
        """Returns the name of the user whose password is right."""
        kind, _, encoded = self.headers.get("Authorization", "").partition(" ")
        name, _, password = base64.b64decode(encoded).decode().partition(":")
        return name if kind == "Basic" and password == os.environ["AGENT_VM_TEST_PASSWORD"] else None

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_GET(self) -> None:
        body = self.body()
        first, _, rest = self.path[1:].partition("/")
        if first in ("moved", "lost"):
            place = f"/public/{rest}" if first == "moved" else f"https://{rest}"
            self.answer(302, [("Location", place)], b"")
            return
        user = self.user()
        if first == "public":
            rights = "with" if "Authorization" in self.headers else "without"
            print(f"{self.headers['Host']} {rights} a password", file=sys.stderr, flush=True)
        elif user is None:
            self.answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
            return
        else:
            print(f"user {user}", file=sys.stderr, flush=True)
        path, _, query = self.path.partition("?")
        environment = os.environ | {
            "GIT_PROJECT_ROOT": ROOT,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = [tuple(line.split(": ", 1)) for line in head.decode().splitlines()]
        status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
        self.answer(status, [field for field in fields if field[0] != "Status"], content)

    do_POST = do_GET

    def answer(self, status: int, fields: list[tuple[str, ...]], content: bytes) -> None:
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


server = ThreadingHTTPServer(("127.0.0.1", 0), Git)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
