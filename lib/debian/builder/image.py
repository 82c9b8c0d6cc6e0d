"""Create the read-only image from the archive of the root file system."""

from pathlib import Path

from . import report, run

LABEL = "agent-vm-base"


def unpack(tar: Path, work: Path) -> Path:
    tree = work / "tree"
    tree.mkdir()
    report.say("unpacking the root file system")
    argv = ["tar", "--extract", "--numeric-owner", "--preserve-permissions", f"--directory={tree}", f"--file={tar}"]
    run.run(run.as_root(argv), what="unpacking the root file system")
    tar.unlink()
    return tree


def pack(tree: Path, out: Path) -> None:
    """Create an ext4 image of `tree`, without a journal because it is read-only."""
    report.say("creating the image")
    script = r"""
        set -eu
        rm -rf "$1/.agent-vm"
        (cd "$1" && mkdir -p dev home proc run sys tmp var)
        used=$(du --summarize --block-size=4096 "$1" | cut -f 1)
        files=$(find "$1" -printf . | wc -c)
        mke2fs -q -t ext4 -b 4096 -m 0 -L "$3" -O ^has_journal,^resize_inode,^huge_file \
          -N $((files + 64)) -E nodiscard,lazy_itable_init=0 -d "$1" "$2" $((used + used / 20 + files / 8 + 2048))
    """
    run.run(run.as_root(["sh", "-c", script, "sh", str(tree), str(out), LABEL]), what="creating the image")
    make_console(out)
    run.run(["e2fsck", "-f", "-n", str(out)], what="checking the image")


def make_console(image: Path) -> None:
    """Create /dev/console, which the kernel opens for the first program. devtmpfs provides the other devices."""
    commands = image.with_suffix(".debugfs")
    commands.write_text("cd /dev\nmknod console c 5 1\n")
    run.run(["debugfs", "-w", "-f", str(commands), str(image)], what="creating /dev/console")
    commands.unlink()
