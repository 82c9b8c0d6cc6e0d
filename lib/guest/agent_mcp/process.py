"""A running stdio MCP server: its input, its messages and its standard error."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable

from journal import INFO, log
from policy import LONGEST_MESSAGE
from workspace_servers import Server

# Number of successive output lines that are not MCP messages after which a program is no MCP server.
MOST_NOISE = 1000
# Maximal length of a logged line of a server's standard error.
LONGEST_WORDS = 4096
# Maximal length of that line in the server's state.
LAST_WORDS = 200
# Maximal number of messages queued for a server that does not read its input.
MOST_UNREAD = 1000


class Process:
    """A running server, with threads that write its input and read its output."""

    def __init__(self, server: Server, workspace: str):
        self.last_words = ""
        self._name = server.name
        self._popen = subprocess.Popen(
            server.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=workspace,
            env={**os.environ, **server.env},
            # A process group of its own, so that its children can be ended with it.
            start_new_session=True,
        )
        self._unwritten: queue.Queue = queue.Queue(MOST_UNREAD)
        self._errors = threading.Thread(target=self._read_errors, daemon=True)
        self._errors.start()
        threading.Thread(target=self._write, daemon=True).start()

    def send(self, line: bytes) -> bool:
        """Queues a line for the server; returns False if it reads nothing and the queue is full."""
        try:
            self._unwritten.put_nowait(line)
        except queue.Full:
            return False
        return True

    def signal(self, number: int) -> bool:
        """Signals the server and its children; returns False if none is left."""
        try:
            os.killpg(self._popen.pid, number)
        except ProcessLookupError:
            return False
        return True

    def messages(self, each: Callable[[dict, bytes], None]) -> str | None:
        """Reads messages until the output ends; returns what is wrong with the output, if that ended it."""
        noise = 0
        while line := self._popen.stdout.readline(LONGEST_MESSAGE):
            message = decode(line)
            if message is not None:
                noise = 0
                each(message, line)
                continue
            noise += 1
            if noise > MOST_NOISE or len(line) == LONGEST_MESSAGE:
                return "writes lines that are not MCP messages"
        return None

    def end(self) -> int:
        """Ends the remaining processes; returns the status as subprocess does."""
        # Without output there are no answers, even if the program still runs.
        self.signal(signal.SIGKILL)
        status = self._popen.wait()
        with contextlib.suppress(queue.Full):
            # A full queue means that the writer is blocked in a write, which fails now.
            self._unwritten.put_nowait(None)
        with contextlib.suppress(OSError):
            self._popen.stdin.close()
        # Wait for the last lines of standard error. A child that left the process group may keep it open.
        self._errors.join(1.0)
        return status

    def _write(self) -> None:
        while (line := self._unwritten.get()) is not None:
            try:
                self._popen.stdin.write(line)
                self._popen.stdin.flush()
            except (OSError, ValueError):
                # The thread that reads the output sees its end and reports it.
                return

    def _read_errors(self) -> None:
        while line := self._popen.stderr.readline(LONGEST_WORDS):
            words = line.decode("utf-8", "replace").strip()
            if words:
                log(INFO, f"{self._name}: {words}", LONGEST_WORDS)
                self.last_words = words[:LAST_WORDS]


def decode(line: bytes) -> dict | None:
    """Returns a message, or None for a line that is not one."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def encode(message: dict) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
