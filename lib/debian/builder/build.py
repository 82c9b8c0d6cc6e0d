"""The steps of a build, in order."""

import json
import os
import shutil
import stat
from pathlib import Path

from . import image, kernel, memory, overlay, report, root, run, snapshot, temporary

FORMAT = 1


def build(spec_file: Path, out: Path) -> None:
    """Make the guest package `out` from the manifest in `spec_file`."""
    manifest = read_manifest(spec_file)
    spec = manifest["image"]["spec"]
    out = out.absolute()
    if out.exists():
        raise report.BuildError(f"{out} exists already")
    if not out.parent.is_dir():
        raise report.BuildError(f"{out.parent} is not a directory")
    run.require(["mmdebstrap", "mke2fs", "debugfs", "e2fsck", "tar", "unshare", "zstd"])
    if os.geteuid() != 0:
        run.require(["newuidmap"])

    with (
        temporary.signals(),
        temporary.directory(out.parent, f".{out.name}.tmp-") as place,
        # mmdebstrap unpacks here. For an ordinary user it runs with subordinate IDs, which may have no access to `out`.
        temporary.scratch("build") as scratch,
    ):
        source = snapshot.choose(spec)
        package = place / "package"
        make_package(manifest, source, package, place, scratch)
        publish(package, out)
    report.say(f"built {out} ({allocated(out) >> 20} MiB)")


def make_package(manifest: dict, source: snapshot.Source, package: Path, place: Path, scratch: Path) -> None:
    """Make the guest package, in memory if that has enough room, otherwise on disk."""
    with memory.mounted(scratch) as room:
        if room is not None:
            try:
                return steps(manifest, source, package, scratch, scratch)
            # Python's own functions write there, too.
            except (report.BuildError, OSError):
                if not room.was_full():
                    raise
        else:
            return steps(manifest, source, package, place, scratch)
    report.say("the image is too big to be built in memory; building it again on disk")
    shutil.rmtree(package, ignore_errors=True)
    return steps(manifest, source, package, place, scratch)


def steps(manifest: dict, source: snapshot.Source, package: Path, parent: Path, scratch: Path) -> None:
    work = parent / "work"
    work.mkdir()
    spec = manifest["image"]["spec"]
    with overlay.prepared(spec, work) as archive:
        tar = root.bootstrap(spec, archive, work, scratch, source.mirrors)
    tree = image.unpack(tar, work)
    package.mkdir()
    report.say("extracting the kernel")
    kernel.extract(tree, package)
    names = shutil.copyfile(tree / overlay.STAGE / "packages.txt", work / "packages.txt")
    image.pack(tree, package / "base.img")
    write_package(manifest, package)
    shutil.copyfile(names, package / "share/agent-vm/packages.txt")
    (package / "share/agent-vm/built.json").write_text(json.dumps(source.described()) + "\n")


def read_manifest(path: Path) -> dict:
    try:
        manifest = json.loads(path.read_text())
        made_for = manifest["image"]["spec"]["format"]
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise report.BuildError(f"{path} is not a manifest with an image to build") from cause
    if made_for != FORMAT:
        raise report.BuildError(f"{path} has format {made_for}; this builder supports format {FORMAT}")
    return manifest


def write_package(manifest: dict, package: Path) -> None:
    """Write the package's runner and manifest, without the parts that describe how to build the image."""
    runner = package / manifest["runner"]
    runner.parent.mkdir(parents=True)
    runner.write_text(manifest["image"]["spec"]["runner"])
    runner.chmod(0o755)
    share = package / "share/agent-vm"
    share.mkdir(parents=True)
    text = json.dumps({**manifest, "image": None}, indent=2, sort_keys=True)
    (share / "manifest.json").write_text(text + "\n")


def publish(package: Path, out: Path) -> None:
    """Rename the finished package to its final path."""
    for path in [*package.rglob("*"), package]:
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode & ~0o222 | 0o444 | (0o755 if path.is_dir() else 0))
    # Write the files to disk before the rename, so that a crash leaves a complete package or none.
    for path in [*package.rglob("*"), package]:
        if not path.is_symlink():
            write_to_disk(path)
    try:
        package.rename(out)
    except OSError as cause:
        raise report.BuildError(f"cannot rename the finished package to {out}") from cause


def write_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def allocated(path: Path) -> int:
    return sum(file.lstat().st_blocks * 512 for file in path.rglob("*"))
