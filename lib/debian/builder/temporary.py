"""Temporary directories that a later build removes if this one is killed."""

import contextlib
import fcntl
import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import report, run

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Directories for temporary files that subordinate IDs can enter, if they cannot enter the user's own.
SHARED = [Path("/tmp"), Path("/var/tmp")]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Create a directory in `parent` and remove it at the end. Leftovers with the same prefix are removed first."""
    remove_leftovers(parent, prefix)
    made = None
    try:
        # A signal waits until `made` is set, so that the directory is removed.
        with _without_signals():
            made = _locked(parent, prefix)
        yield made[0]
    finally:
        if made:
            path, lock = made
            _remove(path)
            os.close(lock)


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Create a directory like `directory`, as TMPDIR of an mmdebstrap, which an ordinary user runs with subordinate IDs."""
    with directory(_scratch_parent(), f"agent-vm-{name}-{os.geteuid()}-") as path:
        path.chmod(0o711)
        yield path


def _scratch_parent() -> Path:
    """Return the user's directory for temporary files, or another one if subordinate IDs cannot enter it."""
    own = Path(tempfile.gettempdir())
    for parent in [own, *SHARED]:
        # The path without links, because mmdebstrap enters each directory on it.
        parent = parent.resolve()
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK) and (os.geteuid() == 0 or _is_open_to_all(parent)):
            return parent
    raise report.BuildError(
        f"no directory for temporary files: subordinate IDs cannot enter {own}, "
        f"and {' and '.join(map(str, SHARED))} cannot be used either",
        hint="set TMPDIR to a directory that all users can enter",
    )


def _is_open_to_all(path: Path) -> bool:
    """Return whether all users can enter an absolute path without links."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in [path, *path.parents])


@contextlib.contextmanager
def _without_signals() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _locked(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # The directory itself is the lock, so that one that is removed in part still has it.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(path, DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Until the lock is held, another build may remove the directory as a leftover.
            if path.exists():
                return path, lock
            os.close(lock)


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove directories whose build has ended and thereby released its lock."""
    for path in parent.glob(f"{prefix}*"):
        try:
            if path.lstat().st_uid != os.geteuid():
                continue
            lock = os.open(path, DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            # Another build has removed it, or it is not a directory of a build.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            report.say(f"removing {path}, left by a killed run")
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

    def interrupt(number: int, _frame: object) -> None:
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise report.Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
