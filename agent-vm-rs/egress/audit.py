"""The audit log, one JSON object a line, and the numbers of denied and allowed attempts."""

import json
import os
from datetime import datetime, timezone

# Maximal number of characters of a value that the guest chooses.
LONGEST_TEXT = 2048


class Audit:
    def __init__(self, log: str, denied: str, longest: int):
        """
        `longest` is the size in bytes at which the log is rotated; one older log is kept. The guest can cause entries without limit.
        The number of allowed attempts is in the file `allowed` beside `denied`.
        """
        self._log = log
        self._longest = longest
        self._files = {"deny": denied, "allow": os.path.join(os.path.dirname(denied), "allowed")}
        # Attempts that an earlier proxy of this run counted.
        self._counts = {verdict: count(path) for verdict, path in self._files.items()}

    def write(self, *, verdict, reason, method, host, port, path=None, status=None, received=None):
        line = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "verdict": verdict,
            "method": short(method),
            "host": short(host),
            "port": port,
            "path": short(path),
            "status": status,
            "bytes": received,
            "reason": short(reason) or None,
        }
        if verdict in self._files:
            self._count(verdict)
        self._make_room()
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            # ASCII: a terminal must not obey names that the guest chose.
            os.write(descriptor, (json.dumps(line) + "\n").encode("ascii"))
        finally:
            os.close(descriptor)

    def _count(self, verdict):
        self._counts[verdict] += 1
        path = self._files[verdict]
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write(f"{self._counts[verdict]}\n")
        os.replace(f"{path}.new", path)

    def _make_room(self):
        try:
            if os.stat(self._log).st_size > self._longest:
                os.replace(self._log, f"{self._log}.1")
        except FileNotFoundError:
            pass


def short(text):
    if text is None or len(text) <= LONGEST_TEXT:
        return text
    return text[:LONGEST_TEXT] + "…"


def count(path):
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
