"""Stands in for QEMU and a guest in a guest package: answers on the machine's ports, and uses what it is asked to use of the host.

    POST /mcp               the probe of MCP's health
    POST /use/threads/N     as many threads as the host allows, at most N; answers with their number
    POST /use/memory/N      N MiB of memory
    POST /use/processor/N   N seconds of a processor's time, if the host gives them
    POST /use/network/N     answers with N KiB
"""

import contextlib
import http.server
import json
import os
import pathlib
import re
import signal
import socketserver
import ssl
import sys
import threading
import time

# In QEMU's working directory.
CREDENTIALS = pathlib.Path("credentials")


class Ssh(socketserver.BaseRequestHandler):
    """Greets, and keeps the connection open as long as the client."""

    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-stand-in\r\n")
        while self.request.recv(4096):
            pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def threads(most: int) -> bytes:
    end = threading.Event()
    started = []
    with contextlib.suppress(RuntimeError):
        for _ in range(most):
            thread = threading.Thread(target=end.wait)
            thread.start()
            started.append(thread)
    end.set()
    for thread in started:
        thread.join()
    return str(len(started)).encode()


def memory(mebibytes: int) -> bytes:
    # Written, because the kernel gives no memory for pages that are only read.
    return str(len(b"x" * (mebibytes << 20)) >> 20).encode()


def processor(seconds: int) -> bytes:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return b"done"


def network(kibibytes: int) -> bytes:
    return b"x" * (kibibytes << 10)


USES = {use.__name__: use for use in (threads, memory, processor, network)}


class Mcp(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.server.token
        use = re.fullmatch("/use/([a-z]+)/([0-9]+)", self.path)
        if token is not None and self.headers.get("Authorization") != f"Bearer {token}":
            self.answer(401)
        elif use:
            self.answer(200, USES[use[1]](int(use[2])))
        else:
            server = {"name": "stand-in", "version": "0"}
            result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": server}
            answer = {"jsonrpc": "2.0", "id": json.loads(body).get("id"), "result": result}
            self.answer(200, json.dumps(answer).encode())


class McpServer(Server):
    """MCP's reverse proxy, with this run's credentials."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Mcp)
        endpoint = json.loads((CREDENTIALS / "agent-vm.mcp-endpoint").read_text())
        self.token = (CREDENTIALS / "agent-vm.mcp-token").read_text() if endpoint["auth"] else None
        self.tls = None
        if endpoint["tls"]:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(CREDENTIALS / "agent-vm.mcp-cert", CREDENTIALS / "agent-vm.mcp-key")

    def finish_request(self, request: object, client_address: object) -> None:
        # In the connection's own thread.
        if self.tls:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)


def main() -> None:
    os.chdir(os.environ["TMPDIR"])
    # As QEMU does, this process writes its id, and removes the file when it exits by itself.
    process = pathlib.Path(sys.argv[sys.argv.index("-pidfile") + 1])
    process.write_text(f"{os.getpid()}\n")
    forwards = re.findall(r"hostfwd=tcp:([0-9.]+):([0-9]+)-:([0-9]+)", os.environ["QEMU_NET_OPTS"])
    for address, port, guest in forwards:
        here = (address, int(port))
        server = Server(here, Ssh) if guest == "22" else McpServer(here)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("the stand-in for a guest runs", flush=True)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    process.unlink()


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
main()
