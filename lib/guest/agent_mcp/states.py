"""The states of all servers: a file for `agent-vm status`, and a line for `systemctl status`."""

import json
import os
import threading
from pathlib import Path

from journal import notify

# Maximal number of problems in the file, so that readers can limit its size.
MOST_PROBLEMS = 32
LONGEST = 300


class States:
    def __init__(self, path: Path, problems: list[str]):
        self._path = path
        self._lock = threading.Lock()
        self._servers: dict[str, dict] = {}
        self._problems = [problem[:LONGEST] for problem in problems[:MOST_PROBLEMS]]

    def changed(self, state: dict) -> None:
        """Records the state of a server, as returned by Supervised.describe."""
        with self._lock:
            self._servers[state["name"]] = {
                name: value[:LONGEST] if isinstance(value, str) else value for name, value in state.items()
            }
            self._write()
            notify(f"STATUS={self._summary()}")

    def summary(self) -> str:
        """Returns the states on one line."""
        with self._lock:
            return self._summary()

    def _summary(self) -> str:
        return ", ".join(f"{name} {state['state']}" for name, state in self._servers.items())[:LONGEST]

    def _write(self) -> None:
        new = self._path.with_suffix(".new")
        text = json.dumps({"servers": list(self._servers.values()), "problems": self._problems})
        try:
            new.write_text(text)
            os.replace(new, self._path)
        except OSError:
            # The file is only for display: servers run without it.
            pass
