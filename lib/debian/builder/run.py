"""The one place that starts programs: none of them outlives the build, and a failure shows its last lines."""

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

from . import report

# Debian packages of the programs that the build needs on the host.
PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "tar": "tar",
    "zstd": "zstd",
    "unshare": "util-linux",
    "newuidmap": "uidmap",
}

# Debian keeps mke2fs where an ordinary user's PATH does not lead.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])

# Programs may take this long to clean up after a SIGTERM.
GRACE = 20

_PR_SET_PDEATHSIG = 1
_running: set[subprocess.Popen] = set()


def require(programs: list[str]) -> None:
    """Fail with the packages to install if a program is missing."""
    missing = [name for name in programs if shutil.which(name, path=SEARCH_PATH) is None]
    if missing:
        packages = sorted({PACKAGES[name] for name in missing})
        raise report.BuildError(
            f"not on PATH: {', '.join(missing)}",
            hint=f"apt-get install {' '.join(packages)}",
        )


def run(argv: list[str], *, what: str, env: dict[str, str] | None = None) -> None:
    """Run a program to its end; `what` names the step in the error."""
    with tempfile.TemporaryFile() as log:
        # The output goes to the terminal where it was asked for, else to a file that only an error shows.
        output = sys.stderr.buffer if report.level >= report.VERBOSE else log
        if report.level >= report.DEBUG:
            report.say(f"run: {' '.join(argv)}")
        with _process(argv, output, env) as process:
            status = process.wait()
        if status == 0:
            return
        log.seek(0)
        tail = log.read().decode(errors="replace").strip().splitlines()[-15:]
    raise report.BuildError(
        "\n    ".join([f"{what}: {argv[0]} ended with status {status}", *tail]),
        hint="" if report.level else "AGENT_VM_LOG=debug shows all that it says",
    )


@contextlib.contextmanager
def _process(argv: list[str], output, env: dict[str, str] | None) -> Iterator[subprocess.Popen]:
    libc = ctypes.CDLL(None)
    process = subprocess.Popen(
        [shutil.which(argv[0], path=SEARCH_PATH) or argv[0], *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**os.environ, "PATH": SEARCH_PATH, **(env or {})},
        start_new_session=True,
        # A killed build takes its programs along.
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),
    )
    _running.add(process)
    try:
        yield process
    finally:
        _running.discard(process)
        end(process)


def end(process: subprocess.Popen) -> None:
    """End a program and all that it started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def end_all() -> None:
    """End what other threads have started."""
    for process in list(_running):
        end(process)


def as_root(argv: list[str]) -> list[str]:
    """The same command with root's rights over the build's own files: subordinate ids for an ordinary user."""
    if os.geteuid() == 0:
        return argv
    return ["unshare", "--user", "--map-root-user", "--map-auto", "--", *argv]


def remove_tree(path: Path) -> None:
    """Remove a directory that may hold files of subordinate ids."""
    if path.exists():
        run(as_root(["rm", "-rf", "--", str(path)]), what=f"removing {path}")
