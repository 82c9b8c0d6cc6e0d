"""Keeps one stdio MCP server, so that mcp-proxy never sees it fail.

mcp-proxy initializes its servers one after the other before it listens, and ends if one of them fails. So each server is
started here, all at once; mcp-proxy gets the answer to `initialize` from here, and an error for every request to a
server that does not run. A server that ended is started again by the next request.
"""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from journal import NOTICE, WARNING, log
from workspace_servers import Server

# Whoever asks is told "not yet" this long after the server's start; it may still come up. Counted from the start, which
# is the same for all, so that several servers that hang delay mcp-proxy no longer than one.
GRACE = 30.0
# A server that has not answered `initialize` by then is ended.
DEADLINE = 120.0
# Between two starts of a server that ends.
PAUSE = 5.0

PROTOCOL = "2025-06-18"
HANDSHAKE = "agent-mcp-initialize"
# Of one line; a tool's result may hold a file.
LONGEST_LINE = 64 << 20
# Lines in a row that are no messages. A program that prints more of them is no MCP server.
MOST_NOISE = 1000
# JSON-RPC's range for the implementation's own errors.
NOT_RUNNING = -32000


class Relay:
    def __init__(self, server: Server, path: Path, workspace: str, grace: float = GRACE, pause: float = PAUSE):
        self.name = server.name
        self.path = path
        self._server = server
        self._workspace = workspace
        self._grace = grace
        self._pause = pause
        self._changed = threading.Condition()
        # All below is guarded by _changed.
        self._process: subprocess.Popen | None = None
        self._hello: dict | None = None
        self._ready = False
        self._started = 0.0
        self._failure = "not started"
        self._verdict: str | None = None
        self._stopping = False
        self._client: socket.socket | None = None
        self._pending: dict = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(os.fspath(path))
        self._listener.listen(1)

    def start(self) -> None:
        with self._changed:
            self._launch()
        threading.Thread(target=self._serve, daemon=True).start()

    def terminate(self, number: int = signal.SIGTERM) -> bool:
        """Send a signal to the server and its children; false if there is none left."""
        with self._changed:
            self._stopping = True
            process = self._process
        if process is None:
            return False
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return False
        return True

    # The server's side.

    def _launch(self) -> None:
        """With _changed held: start the server, unless it runs or has only just ended."""
        now = time.monotonic()
        if self._process is not None or self._stopping or (self._started and now - self._started < self._pause):
            return
        self._started = now
        self._ready = False
        self._failure = "is still starting"
        self._verdict = None
        try:
            self._process = subprocess.Popen(
                self._server.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=self._workspace,
                env={**os.environ, **self._server.env},
                # A group of its own, so that its children end with it.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._fail(f"cannot be started: {error}")
            return
        threading.Thread(target=self._read_server, args=(self._process,), daemon=True).start()
        timer = threading.Timer(DEADLINE, self._give_up, args=(self._process,))
        timer.daemon = True
        timer.start()
        parameters = {
            "protocolVersion": PROTOCOL,
            "capabilities": {},
            "clientInfo": {"name": "agent-mcp", "version": "1"},
        }
        self._to_server({"jsonrpc": "2.0", "id": HANDSHAKE, "method": "initialize", "params": parameters})

    def _read_server(self, process: subprocess.Popen) -> None:
        noise = 0
        while line := process.stdout.readline(LONGEST_LINE):
            message = decode(line)
            if message is not None:
                noise = 0
                self._from_server(message, line)
                continue
            noise += 1
            if noise > MOST_NOISE or len(line) == LONGEST_LINE:
                with self._changed:
                    self._verdict = "writes what is no MCP message"
                break
        # No output means no answers, even if the program itself lingers.
        end_group(process)
        status = process.wait()
        with self._changed:
            self._process = None
            if not self._stopping:
                self._fail(self._verdict or f"ended with status {status}")

    def _from_server(self, message: dict, line: bytes) -> None:
        with self._changed:
            if message.get("id") == HANDSHAKE and "method" not in message:
                if isinstance(message.get("result"), dict):
                    self._hello = message["result"]
                    self._ready = True
                    self._to_server({"jsonrpc": "2.0", "method": "notifications/initialized"})
                else:
                    self._verdict = f"refused to initialize: {json.dumps(message.get('error'))}"
                    end_group(self._process)
                self._changed.notify_all()
                return
            if "method" not in message:
                self._pending.pop(key(message.get("id")), None)
            client = self._client
        self._to_client(client, line)

    def _give_up(self, process: subprocess.Popen) -> None:
        with self._changed:
            if self._process is process and not self._ready:
                self._verdict = f"did not answer initialize in {DEADLINE:.0f} s"
                end_group(process)

    def _fail(self, why: str) -> None:
        """With _changed held: what every open request is answered with."""
        self._ready = False
        self._failure = why
        log(WARNING, f"server {self.name} {why}; the other servers go on, the next request tries it again")
        client, pending = self._client, list(self._pending.values())
        self._pending.clear()
        self._changed.notify_all()
        for identity in pending:
            self._refuse(client, identity)

    def _to_server(self, message: dict) -> None:
        self._write_server(json.dumps(message).encode() + b"\n")

    def _write_server(self, line: bytes) -> None:
        process = self._process
        if process is None:
            return
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except (OSError, ValueError):
            # Its reader sees the end and says so.
            pass

    # mcp-proxy's side.

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with self._changed:
                self._client = connection
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    message = decode(line)
                    if message is not None:
                        self._from_client(connection, message, line)

    def _from_client(self, client: socket.socket, message: dict, line: bytes) -> None:
        method, identity = message.get("method"), message.get("id")
        if method == "initialize":
            self._to_client(client, self._greeting(message))
            return
        if method == "notifications/initialized":
            return
        with self._changed:
            if method is not None and identity is not None:
                self._launch()
                self._wait()
                if not self._ready:
                    self._refuse(client, identity)
                    return
                self._pending[key(identity)] = identity
            process = self._process if self._ready else None
        if process is not None:
            # Not under the lock: a server that does not read its input holds up nothing but its own.
            self._write_server(line)

    def _wait(self) -> None:
        """With _changed held: until the server is ready or has ended, or its grace is over."""
        left = self._started + self._grace - time.monotonic()
        self._changed.wait_for(lambda: self._ready or self._process is None, max(left, 0))

    def _greeting(self, request: dict) -> bytes:
        """The server's own answer to `initialize`, or one in its place that promises what it may yet have."""
        with self._changed:
            self._wait()
            hello = self._hello
            if hello is None:
                log(NOTICE, f"server {self.name} {self._failure}; mcp-proxy goes on without it")
                hello = {
                    "protocolVersion": PROTOCOL,
                    "capabilities": {"tools": {}, "prompts": {}, "resources": {}},
                    "serverInfo": {"name": self.name, "version": "0"},
                    "instructions": f"The server {self.name} {self._failure}.",
                }
        return json.dumps({"jsonrpc": "2.0", "id": request.get("id"), "result": hello}).encode() + b"\n"

    def _refuse(self, client: socket.socket | None, identity: object) -> None:
        error = {"code": NOT_RUNNING, "message": f"The server {self.name} {self._failure}."}
        self._to_client(client, json.dumps({"jsonrpc": "2.0", "id": identity, "error": error}).encode() + b"\n")

    @staticmethod
    def _to_client(client: socket.socket | None, line: bytes) -> None:
        if client is None:
            return
        try:
            client.sendall(line)
        except OSError:
            # mcp-proxy has ended; so does everything else in a moment.
            pass


def decode(line: bytes) -> dict | None:
    """A message, or None for a line that is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def end_group(process: subprocess.Popen) -> None:
    """End a server and what it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def key(identity: object) -> str:
    """Ids are numbers or strings, and 1 is not "1"."""
    return json.dumps(identity)
