"""Temporary directories that a later build removes if this one is killed."""

import contextlib
import fcntl
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import report, run

LOCK = "lock"


@contextlib.contextmanager
def directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Create a directory in `parent` and remove it at the end. Leftovers with the same prefix are removed first."""
    remove_leftovers(parent, prefix)
    path, lock = _locked(parent, prefix)
    try:
        yield path
    finally:
        _remove(path)
        os.close(lock)


def _locked(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = os.open(path / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Until the lock is held, another build may remove the directory as a leftover.
        if (path / LOCK).exists():
            return path, lock
        os.close(lock)


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove directories whose build has ended and thereby released its lock."""
    for path in parent.glob(f"{prefix}*"):
        try:
            if path.is_symlink() or path.lstat().st_uid != os.geteuid():
                continue
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # The directory is gone already, or too new to have a lock.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            report.say(f"removing {path}, left by a build that was killed")
            _remove(path)
        finally:
            os.close(lock)


def _remove(path: Path) -> None:
    """Remove a directory, or print why that failed: the failure must not hide the build's own result."""
    try:
        run.remove_tree(path)
    except report.BuildError as error:
        report.error(error)


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Raise Interrupted at the first signal that ends a program. Later ones do not interrupt the clean-up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, _frame: object) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        raise report.Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
