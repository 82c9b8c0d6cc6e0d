"""Create the root file system with mmdebstrap; finish.py is its last step."""

import os
import re
import shlex
from pathlib import Path

from . import report, run
from .overlay import STAGE

# apt's messages for an unknown package, and for a name that only other packages mention.
UNKNOWN = re.compile(r"E: (?:Unable to locate package ([a-z0-9+.-]+)|Package '([a-z0-9+.-]+)' has no installation candidate)")
# Documentation and translations, which are not unpacked.
EXCLUDES = [
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/man/*",
]


def limits(seconds: int, *, retries: int) -> list[str]:
    """
    Return mmdebstrap's options for a mirror that does not answer. apt gives up a file after two times `seconds`, and then tries
    again `retries` times. Debian's mirror has three files to begin with.
    """
    options = {"Acquire::http::Timeout": seconds, "Acquire::https::Timeout": seconds, "Acquire::Retries": retries}
    return [f'--aptopt={name} "{value}"' for name, value in options.items()]


def bootstrap(spec: dict, overlay: Path, work: Path, scratch: Path, mirrors: list[str]) -> Path:
    """Create the root file system from the packages of these mirrors; returns the path of its archive."""
    out = work / "root.tar"
    report.say(f"installing Debian {spec['suite']} ({len(spec['packages'])} packages and their dependencies)")
    argv = [
        "mmdebstrap",
        "--mode=root" if os.geteuid() == 0 else "--mode=unshare",
        "--variant=minbase",
        "--format=tar",
        f"--architectures={spec['architecture']}",
        f"--include={','.join(spec['packages'])}",
        *limits(10, retries=2),
        "--aptopt=APT::Install-Recommends false",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDES),
        # Packages such as Java's make links there and fail without the directories.
        f'--essential-hook=cd "$1" && mkdir -p {" ".join(path.lstrip("/") for path in spec["emptyDirectories"])}',
        # The spec removes these files itself, and an ordinary user cannot unpack device nodes.
        "--skip=cleanup,output/dev",
        f"--customize-hook=tar-in {shlex.quote(str(overlay))} /",
        f'--customize-hook=chroot "$1" /usr/bin/python3 -I /{STAGE}/finish.py',
        *{report.QUIET: [], report.VERBOSE: ["--verbose"], report.DEBUG: ["--debug"]}[report.level],
        spec["suite"],
        str(out),
        *mirrors,
    ]
    argv, ending = run.contained(argv)
    try:
        run.run(argv, what="installing Debian", env={"TMPDIR": str(scratch), "LC_ALL": spec["locale"]}, ending=ending)
    except report.BuildError as error:
        if unknown := UNKNOWN.search(str(error)):
            name = unknown[1] or unknown[2]
            raise report.BuildError(
                f"Debian {spec['suite']} has no package {name}",
                hint=f"leave {name} out of the machine's packages: agent-vm set packages=LIST",
            ) from None
        raise
    return out
