"""Keeps one stdio MCP server running: starts it, initializes it, restarts it when it ends, and tracks its state."""

import json
import signal
import threading
import time
from collections.abc import Callable

from journal import WARNING, log
from policy import MCP
from process import LAST_WORDS, Process, encode
from workspace_servers import Server

# Seconds after which a server that has not answered `initialize` is ended. On a busy host with an emulated processor it takes
# minutes; requests get an error meanwhile.
DEADLINE = 600.0
# Seconds before a restart, growing with each successive failure.
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
# Seconds of running after which the pauses start over.
STEADY = 60.0
# Minimal seconds between starts. A request for a server that has ended starts it at once, but not sooner.
SPACING = 5.0

PROTOCOL = MCP["protocolVersion"]
HANDSHAKE = "agent-mcp-initialize"


class Supervised:
    """One server's process across restarts.

    Its threads call `on_message(message, line)` for each message of the server, and `on_change(state)` after each change of
    its state, with the result of `describe` at that moment, and before a restart.
    """

    def __init__(
        self,
        server: Server,
        workspace: str,
        on_message: Callable[[dict, bytes], None],
        on_change: Callable[[dict], None],
        pauses: tuple[float, ...] = PAUSES,
        spacing: float = SPACING,
    ):
        self.name = server.name
        self._server = server
        self._workspace = workspace
        self._on_message = on_message
        self._on_change = on_change
        self._pauses = pauses
        self._spacing = spacing
        self._lock = threading.RLock()
        # _lock guards the following attributes.
        self._process: Process | None = None
        self._hello: dict | None = None
        self._state = "starting"
        self._why: str | None = None
        self._exit: int | None = None
        self._last_words = ""
        self._starts = 0
        self._failures = 0
        self._started = 0.0
        self._verdict: str | None = None
        self._stopping = False
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """Starts the server unless it runs."""
        with self._lock:
            if self._process is not None or self._stopping:
                return
            self._launch()
            state = self.describe()
        self._report(state)

    def wake(self) -> None:
        """Starts a server that has ended, unless its last start was too recent."""
        with self._lock:
            if self._process is not None or time.monotonic() - self._started < self._spacing:
                return
        self.start()

    def terminate(self, number: int = signal.SIGTERM) -> bool:
        """Signals the server and its children, and stops restarting it; returns False if none is left."""
        with self._lock:
            self._stopping = True
            if self._timer is not None:
                self._timer.cancel()
            process = self._process
        return process is not None and process.signal(number)

    @property
    def running(self) -> bool:
        with self._lock:
            return self._state == "running"

    @property
    def failed(self) -> bool:
        with self._lock:
            return self._state == "failed"

    @property
    def hello(self) -> dict | None:
        """Returns the answer to `initialize` of the running server, or of its last run."""
        with self._lock:
            return self._hello

    def send(self, line: bytes) -> bool:
        """Sends the running server a line; returns False if it does not run or does not read."""
        with self._lock:
            process = self._process if self._state == "running" else None
        return process is not None and process.send(line)

    def describe(self) -> dict:
        """Returns the server's state as in `servers.json` (docs/reference/contract.md)."""
        with self._lock:
            failed = self._state == "failed"
            return {
                "name": self.name,
                "state": self._state,
                "restarts": max(self._starts - 1, 0),
                "exit_code": self._exit if failed and self._exit is not None and self._exit >= 0 else None,
                "signal": -self._exit if failed and self._exit is not None and self._exit < 0 else None,
                "why": self._why,
                "last_line": self._last_words if failed and self._last_words else None,
            }

    def explain(self) -> str:
        """Returns why a request is not answered, as a sentence."""
        with self._lock:
            if self._state == "failed":
                detail = f"; its last line was: {self._last_words}" if self._last_words else ""
                return f"The MCP server {self.name} has failed: it {self._why}{detail}. For details: agent-vm logs"
            if self._state == "starting":
                seconds = time.monotonic() - self._started
                return (
                    f"The MCP server {self.name} is still starting after {seconds:.0f} s. Try again; for details:"
                    " agent-vm logs"
                )
            return f"The MCP server {self.name} runs, but does not read its input. For details: agent-vm logs"

    def _report(self, state: dict) -> None:
        self._on_change(state)
        if state["state"] == "failed":
            self._schedule()

    def _launch(self) -> None:
        """Starts the server. The lock must be held."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._started = time.monotonic()
        self._starts += 1
        self._state, self._why, self._exit, self._verdict = "starting", None, None, None
        try:
            process = Process(self._server, self._workspace)
        except (OSError, ValueError) as error:
            self._last_words = ""
            self._fail(f"cannot be started: {error}")
            return
        self._process = process
        threading.Thread(target=self._follow, args=(process,), daemon=True).start()
        deadline = threading.Timer(DEADLINE, self._give_up, args=(process,))
        deadline.daemon = True
        deadline.start()
        parameters = {
            "protocolVersion": PROTOCOL,
            "capabilities": {},
            "clientInfo": {"name": "agent-mcp", "version": "1"},
        }
        process.send(encode({"id": HANDSHAKE, "method": "initialize", "params": parameters}))

    def _follow(self, process: Process) -> None:
        wrong = process.messages(lambda message, line: self._received(process, message, line))
        status = process.end()
        with self._lock:
            self._process = None
            self._last_words = process.last_words
            if self._stopping:
                return
            self._exit = status
            how = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
            self._fail(self._verdict or wrong or how)
            state = self.describe()
        self._report(state)

    def _received(self, process: Process, message: dict, line: bytes) -> None:
        if message.get("id") != HANDSHAKE or "method" in message:
            self._on_message(message, line)
            return
        with self._lock:
            hello = message.get("result")
            if isinstance(hello, dict):
                process.send(encode({"method": "notifications/initialized"}))
                self._hello = hello
                self._state = "running"
            else:
                self._verdict = f"refused to initialize: {json.dumps(message.get('error'))[:LAST_WORDS]}"
                process.signal(signal.SIGKILL)
                return
            state = self.describe()
        self._report(state)

    def _give_up(self, process: Process) -> None:
        with self._lock:
            if self._process is process and self._state == "starting":
                self._verdict = f"did not answer initialize in {DEADLINE:.0f} s"
                process.signal(signal.SIGKILL)

    def _fail(self, why: str) -> None:
        """Records a failure. The lock must be held."""
        if self._state == "running" and time.monotonic() - self._started >= STEADY:
            self._failures = 0
        self._state, self._why = "failed", why
        self._failures += 1

    def _schedule(self) -> None:
        """Restarts the server after a pause."""
        with self._lock:
            if self._process is not None or self._stopping:
                return
            pause = self._pauses[min(self._failures, len(self._pauses)) - 1]
            log(WARNING, f"server {self.name} {self._why}; restarting in {pause:.0f} s")
            self._timer = threading.Timer(pause, self.start)
            self._timer.daemon = True
            self._timer.start()
