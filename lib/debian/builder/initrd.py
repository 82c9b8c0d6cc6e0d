"""Creates a small initrd for a kernel with the root file system's drivers as modules. finish.py imports it.

The format is "newc" (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel), uncompressed.
"""

import stat
from pathlib import Path

BUSYBOX = Path("/usr/bin/busybox")


class Archive:
    def __init__(self) -> None:
        self.data = bytearray()
        self._inode = 0

    def add(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        path = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device of the file, device number, length of name, checksum
        fields = [self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0]
        self.data += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        self._pad()
        self.data += content
        self._pad()

    def _pad(self) -> None:
        self.data += b"\0" * (-len(self.data) % 4)


def make(init: str, modules: list[Path]) -> bytes:
    """Return an initrd that runs `init`. Its modules are in /modules, numbered in load order."""
    archive = Archive()
    for name in ("dev", "modules", "root"):
        archive.add(name, stat.S_IFDIR | 0o755)
    # The kernel opens /dev/console for the first program.
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("busybox", stat.S_IFREG | 0o755, BUSYBOX.read_bytes())
    archive.add("init", stat.S_IFREG | 0o755, init.encode())
    for number, path in enumerate(modules):
        archive.add(f"modules/{number:02}-{path.name}", stat.S_IFREG | 0o644, path.read_bytes())
    archive.add("TRAILER!!!", 0)
    return bytes(archive.data)
