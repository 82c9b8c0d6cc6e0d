"""A stand-in for QEMU and its guest: greets as sshd does, answers MCP's `initialize`, and obeys QMP.

The arguments are QEMU's. The ports are those of QEMU_NET_OPTS: ssh, then MCP.
"""

import json
import os
import re
import signal
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def end() -> None:
    """Ends as QEMU does when it exits by itself."""
    for name in (pid_file, "qmp.sock"):
        if os.path.exists(name):
            os.remove(name)
    os._exit(0)


class Mcp(BaseHTTPRequestHandler):
    """Answers every request as `initialize`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "stand-in", "version": "1"}}
        body = json.dumps({"jsonrpc": "2.0", "id": request.get("id"), "result": result}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve_mcp(port: int) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", port), Mcp)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("credentials/agent-vm.mcp-cert", "credentials/agent-vm.mcp-key")
    # The handshake runs in the connection's own thread.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


def serve_ssh(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-stand-in\r\n")


def serve_qmp() -> None:
    if os.path.exists("qmp.sock"):
        os.remove("qmp.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("qmp.sock")
        listener.listen(8)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=obey, args=(connection,), daemon=True).start()


def obey(connection: socket.socket) -> None:
    with connection, connection.makefile("rw") as lines:
        print(json.dumps({"QMP": {"version": {}, "capabilities": []}}), file=lines, flush=True)
        for line in lines:
            command = json.loads(line)["execute"]
            answer = {"status": "running"} if command == "query-status" else {}
            print(json.dumps({"return": answer}), file=lines, flush=True)
            if command in ("quit", "send-key", "system_powerdown"):
                end()


def quietly(serve, *arguments: object) -> None:
    try:
        serve(*arguments)
    except OSError as error:
        print(f"stand-in: {serve.__name__}: {error}", flush=True)
        os._exit(1)


pid_file = sys.argv[sys.argv.index("-pidfile") + 1]
with open(pid_file, "w") as file:
    file.write(f"{os.getpid()}\n")
signal.signal(signal.SIGTERM, lambda *_: end())
ssh, mcp = (int(port) for port in re.findall(r"hostfwd=tcp:[0-9.]+:(\d+)-", os.environ["QEMU_NET_OPTS"]))
print("kernel: hello", flush=True)
for service in ((serve_mcp, mcp), (serve_ssh, ssh), (serve_qmp,)):
    threading.Thread(target=quietly, args=service, daemon=True).start()
signal.pause()
while True:
    signal.pause()
