"""Log lines with the journal's priority prefixes, and notifications to systemd."""

import os
import socket
import sys

WARNING, NOTICE, INFO = 4, 5, 6

LONGEST = 500


def log(priority: int, message: str, longest: int = LONGEST) -> None:
    # The message may contain hostile text: keep it on one line, without control characters.
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in message)
    if len(text) > longest:
        text = text[:longest] + "…"
    # In one write: other threads write lines, too.
    os.write(sys.stderr.fileno(), f"<{priority}>{text}\n".encode("utf-8", "backslashreplace"))


def notify(state: str) -> None:
    """Notifies systemd, if it started this program."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.sendto(state.encode(), address)
