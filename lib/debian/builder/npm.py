"""Install programs from npm: exactly the versions and hashes of their lock files, without running any of their scripts."""

import os
import shutil
from pathlib import Path

from . import report, run

HERE = Path(__file__).resolve().parent
# For the guest, whatever the host is.
TARGET = ["--os=linux", "--cpu=x64", "--libc=glibc"]


def install(npm: dict, tree: Path, work: Path) -> None:
    """Install the programs in `tree`, with the Node that is already there. The user's npm configuration names the registry."""
    report.say("installing programs from npm")
    for installation in npm["installations"]:
        target = inside(tree, installation["directory"])
        target.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE.parent / installation["lock"] / name, target)
        run.run(
            command(npm, tree, target, work / "npm-cache"),
            what="installing from npm",
            env={"PATH": f"{inside(tree, npm['node']).parent}{os.pathsep}{run.SEARCH_PATH}"},
        )
        program = inside(tree, installation["program"])
        if not program.is_file():
            raise report.BuildError(f"the package of npm has no {installation['program']}")
        program.chmod(0o755)
    for path in npm["remove"]:
        shutil.rmtree(inside(tree, path))
    shutil.rmtree(work / "npm-cache", ignore_errors=True)


def command(npm: dict, tree: Path, target: Path, cache: Path) -> list[str]:
    """Return the command that installs what the lock file in `target` names."""
    level = {report.QUIET: "error", report.VERBOSE: "notice", report.DEBUG: "verbose"}[report.level]
    return [
        *(str(inside(tree, npm["node"])), str(inside(tree, npm["npm"])), "ci", "--prefix", str(target)),
        *("--ignore-scripts", *TARGET, "--cache", str(cache), "--no-audit", "--no-fund", "--no-bin-links"),
        *("--no-update-notifier", f"--loglevel={level}"),
    ]


def inside(tree: Path, path: str) -> Path:
    return tree / path.lstrip("/")
