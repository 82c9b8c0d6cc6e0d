"""Work in memory if root builds and enough of it is free: an image is made of ten thousands of files."""

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from . import report, run

# The least to begin with, in bytes: four times what the image of the default machine needs.
LEAST = 4 << 30
# Seconds between two looks at what is left.
INTERVAL = 0.2
# A file system in memory with less than this part of its size left counts as full.
FULL = 0.03

_CLONE_NEWNS = 0x20000


class Room:
    """A file system in memory."""

    def __init__(self, place: Path):
        self._place = place
        self._least = 1.0
        self._end = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def _look(self) -> None:
        ended = False
        while not ended:
            ended = self._end.wait(INTERVAL)
            status = os.statvfs(self._place)
            self._least = min(self._least, status.f_bavail / status.f_blocks)

    def close(self) -> None:
        self._end.set()
        self._watch.join()

    def was_full(self) -> bool:
        """Return whether a program had no space, also if it has removed its files since."""
        return self._least < FULL


@contextlib.contextmanager
def mounted(place: Path) -> Iterator[Room | None]:
    """
    Mount a file system in memory at a directory, for this process and those that it starts: nobody else sees it, and it ends
    with them. None if the user is not root, chose a directory by TMPDIR, or has too little memory, and where it is not allowed.
    """
    size = available(Path("/proc/meminfo").read_text()) // 2
    if os.geteuid() != 0 or "TMPDIR" in os.environ or size < LEAST or not _mount(place, size):
        yield None
        return
    room = Room(place)
    try:
        yield room
    finally:
        room.close()
        run.run(["umount", "--lazy", str(place)], what="removing the files in memory")


def available(meminfo: str) -> int:
    """Return the bytes that programs can take without swapping (proc(5), MemAvailable)."""
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) << 10
    return 0


def _mount(place: Path, size: int) -> bool:
    if ctypes.CDLL(None).unshare(_CLONE_NEWNS) != 0:
        return False
    commands = [
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0711", "agent-vm-build", str(place)],
    ]
    for argv in commands:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            report.say(f"building on disk: {done.stderr.strip()}")
            return False
    return True
