"""Run programs. They end with the build, and a failure shows the last lines of their output."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from . import report

# Debian packages of the programs that the build needs on the host.
PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "tar": "tar",
    "zstd": "zstd",
    "unshare": "util-linux",
    "newuidmap": "uidmap",
}

# Debian installs mke2fs in a directory that is not on an ordinary user's PATH.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])

# Seconds for a program to clean up after a SIGTERM.
GRACE = 20

_PR_SET_PDEATHSIG = 1
_running: dict[subprocess.Popen, signal.Signals] = {}


def require(programs: list[str]) -> None:
    """Fail with the packages to install if a program is missing."""
    missing = [name for name in programs if shutil.which(name, path=SEARCH_PATH) is None]
    if missing:
        packages = sorted({PACKAGES[name] for name in missing})
        raise report.BuildError(
            f"not on PATH: {', '.join(missing)}",
            hint=f"apt-get install {' '.join(packages)}",
        )


def run(argv: list[str], *, what: str, env: dict[str, str] | None = None, ending: signal.Signals = signal.SIGTERM) -> None:
    """Run a program to its end. `what` names the step in an error; `ending` is the signal that stops it early."""
    with tempfile.TemporaryFile() as log:
        # With --verbose the output goes to the terminal, otherwise to a file that is shown on failure.
        output = sys.stderr.buffer if report.level >= report.VERBOSE else log
        if report.level >= report.DEBUG:
            report.say(f"run: {' '.join(argv)}")
        with _process(argv, output, env, ending) as process:
            status = process.wait()
        if status == 0:
            return
        log.seek(0)
        tail = log.read().decode(errors="replace").strip().splitlines()[-15:]
    raise report.BuildError(
        "\n    ".join([f"{what}: {argv[0]} exited with status {status}", *tail]),
        hint="" if report.level else "set AGENT_VM_LOG=debug to see its whole output",
    )


@contextlib.contextmanager
def _process(
    argv: list[str], output: IO[bytes], env: dict[str, str] | None, ending: signal.Signals
) -> Iterator[subprocess.Popen]:
    libc = ctypes.CDLL(None)
    process = subprocess.Popen(
        [shutil.which(argv[0], path=SEARCH_PATH) or argv[0], *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**os.environ, "PATH": SEARCH_PATH, **(env or {})},
        start_new_session=True,
        # The kernel ends the program if the build is killed.
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, ending),
    )
    _running[process] = ending
    try:
        yield process
    finally:
        _running.pop(process, None)
        end(process, ending)


def end(process: subprocess.Popen, ending: signal.Signals) -> None:
    """End a program and its process group."""
    if process.poll() is None:
        process.send_signal(ending)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def end_all() -> None:
    """End the programs that other threads started."""
    for process, ending in list(_running.items()):
        end(process, ending)


def as_root(argv: list[str]) -> list[str]:
    """Return the command with root's rights on the build's files. For an ordinary user, it runs in a user namespace."""
    if os.geteuid() == 0:
        return argv
    return ["unshare", "--user", "--map-root-user", "--map-auto", "--", *argv]


def contained(argv: list[str]) -> tuple[list[str], signal.Signals]:
    """
    Return the command to run in its own mount and pid namespaces if the user is root, and the signal that ends it. Its mounts,
    such as mmdebstrap's mounts of the kernel's file systems, are not visible elsewhere, and its processes end with it. For an
    ordinary user, mmdebstrap creates such namespaces itself and cleans up on SIGTERM.
    """
    if os.geteuid() != 0:
        return argv, signal.SIGTERM
    options = ["--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *options, "--", *argv], signal.SIGKILL


def remove_tree(path: Path) -> None:
    """Remove a directory that may contain files of subordinate IDs, without entering file systems mounted in it."""
    if path.exists():
        argv, what = ["rm", "-rf", "--one-file-system", "--", str(path)], f"removing {path}"
        try:
            run(argv, what=what)
        except report.BuildError:
            if os.geteuid() == 0:
                raise
            run(as_root(argv), what=what)
