"""A running stdio MCP server: its input, its messages, and what it writes to standard error."""

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

# Lines in a row that are no messages. A program that prints more of them is no MCP server.
MOST_NOISE = 1000
# Of a line that the server writes to standard error.
LONGEST_WORDS = 4096
# Of that line in the server's state.
LAST_WORDS = 200
# Messages that wait for a server that does not read its input.
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
            # A group of its own, so that its children end with it.
            start_new_session=True,
        )
        self._unwritten: queue.Queue = queue.Queue(MOST_UNREAD)
        self._errors = threading.Thread(target=self._read_errors, daemon=True)
        self._errors.start()
        threading.Thread(target=self._write, daemon=True).start()

    def send(self, line: bytes) -> bool:
        """Give the server a line; false if it reads nothing and enough is waiting."""
        try:
            self._unwritten.put_nowait(line)
        except queue.Full:
            return False
        return True

    def signal(self, number: int) -> bool:
        """Signal the server and its children; false if there is none left."""
        try:
            os.killpg(self._popen.pid, number)
        except ProcessLookupError:
            return False
        return True

    def messages(self, each: Callable[[dict, bytes], None]) -> str | None:
        """Read messages until the output ends; returns what is wrong with the output, if that ended it."""
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
        """End what is left of the server; returns its status as subprocess has it."""
        # No output means no answers, even if the program itself lingers.
        self.signal(signal.SIGKILL)
        status = self._popen.wait()
        with contextlib.suppress(queue.Full):
            # A full queue means that its writer is in a write, which fails now.
            self._unwritten.put_nowait(None)
        with contextlib.suppress(OSError):
            self._popen.stdin.close()
        # What it wrote last is still being read. A child that left the group may hold its standard error open.
        self._errors.join(1.0)
        return status

    def _write(self) -> None:
        while (line := self._unwritten.get()) is not None:
            try:
                self._popen.stdin.write(line)
                self._popen.stdin.flush()
            except (OSError, ValueError):
                # The reader of its output sees the end and reports it.
                return

    def _read_errors(self) -> None:
        while line := self._popen.stderr.readline(LONGEST_WORDS):
            words = line.decode("utf-8", "replace").strip()
            if words:
                log(INFO, f"{self._name}: {words}", LONGEST_WORDS)
                self.last_words = words[:LAST_WORDS]


def decode(line: bytes) -> dict | None:
    """A message, or None for a line that is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def encode(message: dict) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
