"""Create an archive of the files to add to Debian's packages, while the packages are downloaded."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

from . import npm, report, run

# Paths in the root file system: the last build step, its input, and its output for the host.
STAGE = ".agent-vm"

HERE = Path(__file__).resolve().parent
# The modules that run in the root file system.
INSIDE = ["finish.py", "initrd.py"]
# The compiled programs that run in the guest.
NAMES = ["agent-mcp"]
PROGRAMS = HERE.parent / "programs"


@contextlib.contextmanager
def prepared(spec: dict, work: Path) -> Iterator[Path]:
    """
    Return a named pipe from which the archive can be read once. PyPI's packages are downloaded while Debian's are installed;
    a reader of the pipe waits for them.
    """
    pip = find_pip()
    pipe = work / "overlay.tar"
    os.mkfifo(pipe)
    failures: list[BaseException] = []

    def fill() -> None:
        try:
            make(spec, work / "overlay", pip)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            failures.append(error)
        # Open the pipe even after a failure, so that the reader does not wait forever.
        with open(pipe, "wb") as stream, contextlib.suppress(BrokenPipeError):
            if not failures:
                archive(work / "overlay", stream)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        yield pipe
    except report.BuildError:
        # The reader fails because the archive is empty; the cause is this thread's error.
        if failures:
            raise failures[0] from None
        raise
    finally:
        run.end_all()
        # If the thread still waits for a reader, opening the pipe here releases it.
        with contextlib.suppress(OSError):
            os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        thread.join(run.GRACE)


def find_pip() -> list[str]:
    for python in (sys.executable, "/usr/bin/python3"):
        argv = [python, "-m", "pip"]
        probe = subprocess.run([*argv, "--version"], capture_output=True, check=False)
        if probe.returncode == 0:
            return argv
    raise report.BuildError("Python has no pip", hint="apt-get install python3-pip")


def make(spec: dict, tree: Path, pip: list[str]) -> None:
    stage = tree / STAGE
    stage.mkdir(parents=True)
    (stage / "spec.json").write_text(json.dumps(spec))
    for name in INSIDE:
        shutil.copy(HERE / name, stage)
    copy_programs(tree / spec["programs"].lstrip("/"))
    report.say("installing the MCP servers from PyPI")
    for installation in spec["python"]["installations"]:
        install_python(spec["python"], installation, tree, pip)
    if spec["npm"] is not None:
        npm.install(spec["npm"], tree, tree.parent)


def copy_programs(target: Path) -> None:
    missing = [name for name in NAMES if not os.access(PROGRAMS / name, os.X_OK)]
    if missing:
        raise report.BuildError(f"{PROGRAMS / missing[0]} has not been compiled", hint="make install")
    target.mkdir(parents=True)
    for name in NAMES:
        shutil.copy(PROGRAMS / name, target)


def install_python(python: dict, installation: dict, tree: Path, pip: list[str]) -> None:
    target = tree / installation["directory"].lstrip("/")
    options = [
        *("--target", str(target)),
        *("--python-version", python["version"], "--implementation", "cp"),
        *(word for name in python["platforms"] for word in ("--platform", name)),
        # Versions are pinned and hashed. pip resolves nothing and does not check them against the host's Python.
        *("--only-binary=:all:", "--no-deps", "--require-hashes", "--ignore-requires-python"),
        *("--no-compile", "--disable-pip-version-check", "--no-input", "--root-user-action=ignore"),
        *("--no-cache-dir", "--progress-bar=off"),
        *("--requirement", str(HERE.parent / installation["requirements"])),
    ]
    verbosity = {report.QUIET: ["--quiet"], report.VERBOSE: [], report.DEBUG: ["--verbose"]}[report.level]
    run.run([*pip, "install", *verbosity, *options], what="installing from PyPI")
    # These scripts use the path of the host's Python; finish.py writes scripts for the guest.
    shutil.rmtree(target / "bin", ignore_errors=True)


def archive(tree: Path, stream) -> None:
    """Write `tree` as a tar archive in which root owns every file, independent of the user who builds."""

    def owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    with tarfile.open(fileobj=stream, mode="w|") as tar:
        for entry in sorted(tree.iterdir()):
            tar.add(entry, arcname=f"./{entry.name}", filter=owned)
