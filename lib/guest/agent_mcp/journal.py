"""Lines for the journal, with the priorities that it reads from their beginning, and messages to systemd."""

import os
import socket
import sys

WARNING, NOTICE, INFO = 4, 5, 6

LONGEST = 500


def log(priority: int, message: str, longest: int = LONGEST) -> None:
    # A message may quote what a hostile file says: one line, and nothing that a terminal would obey.
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in message)
    if len(text) > longest:
        text = text[:longest] + "…"
    # In one piece: threads write lines of their own.
    os.write(sys.stderr.fileno(), f"<{priority}>{text}\n".encode("utf-8", "backslashreplace"))


def notify(state: str) -> None:
    """Tell systemd, if it is systemd that started this."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.sendto(state.encode(), address)
