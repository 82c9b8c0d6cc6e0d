"""Work in memory if root builds and enough of it is free: an image is made of ten thousands of files."""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
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
    free = [available(Path("/proc/meminfo").read_text()), in_cgroups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]
    size = min(free) // 2
    if os.geteuid() != 0 or "TMPDIR" in os.environ or size < LEAST or not _mount(place, size):
        yield None
        return
    room = Room(place)
    try:
        yield room
    finally:
        room.close()
        try:
            run.run(["umount", "--lazy", str(place)], what="removing the files in memory")
        except report.BuildError as error:
            # The files end with this process. The failure must not hide the build's own result.
            report.error(error)


def available(meminfo: str) -> int:
    """Return the bytes that programs can take without swapping (proc(5), MemAvailable)."""
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) << 10
    return 0


def in_cgroups(own: Path, mount: Path) -> int:
    """
    Return the bytes that the cgroups of this process, such as a container's, let it take. /proc/meminfo does not know their
    limits, and files in memory count there: a build that reaches one is killed.
    """
    least = sys.maxsize
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return least
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            limits, usage, root = ("memory.max", "memory.high"), "memory.current", mount
        elif "memory" in controllers.split(","):
            limits, usage, root = ("memory.limit_in_bytes",), "memory.usage_in_bytes", mount / "memory"
        else:
            continue
        # A container may see its own cgroup as the root, and the path of the host's.
        inside = root / path.lstrip("/")
        for group in {root, *(group for group in (inside, *inside.parents) if group.is_relative_to(root))}:
            for limit in limits:
                # The file does not exist, or has "max".
                with contextlib.suppress(OSError, ValueError):
                    most, used = int((group / limit).read_text()), int((group / usage).read_text())
                    least = min(least, max(0, most - used + _reclaimable(group)))
    return least


def _reclaimable(group: Path) -> int:
    """Return the bytes of a cgroup's page cache of files on disk, which gives way."""
    counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(counts.get("inactive_file", 0)) + int(counts.get("active_file", 0))


def _mount(place: Path, size: int) -> bool:
    if ctypes.CDLL(None).unshare(_CLONE_NEWNS) != 0:
        return False
    commands = [
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0711", "agent-vm-build", str(place)],
    ]
    for argv in commands:
        argv[0] = shutil.which(argv[0], path=run.SEARCH_PATH) or argv[0]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
        except OSError as cause:
            report.say(f"building on disk: {cause}")
            return False
        if done.returncode != 0:
            report.say(f"building on disk: {done.stderr.strip()}")
            return False
    return True
