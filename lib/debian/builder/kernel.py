"""Extract the uncompressed kernel from a bzImage: decompression at boot is slow on an emulated processor."""

import shutil
import struct
import subprocess
from pathlib import Path

from . import report, run
from .overlay import STAGE

ELF = b"\x7fELF"
ZSTD = b"\x28\xb5\x2f\xfd"


def extract(tree: Path, package: Path) -> None:
    """Copy the kernel that finish.py left in `tree` to the package as an ELF file, and the initrd if there is one."""
    made = tree / STAGE / "initrd"
    if made.exists():
        shutil.copyfile(made, package / "initrd")
    compressed = payload((tree / STAGE / "vmlinuz").read_bytes())
    if compressed.startswith(ZSTD):
        compressed = unzstd(compressed)
    if not compressed.startswith(ELF):
        raise report.BuildError(f"Debian's kernel has an unsupported compression format (it begins with {compressed[:6]!r})")
    (package / "vmlinux").write_bytes(compressed)


def payload(image: bytes) -> bytes:
    """Return the compressed kernel: see Documentation/arch/x86/boot.rst of the kernel, fields setup_sects and payload_*."""
    if image[0x202:0x206] != b"HdrS":
        raise report.BuildError("Debian's kernel is not a bzImage")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = (setup_sectors + 1) * 512 + offset
    # The kernel's build appends the length of the uncompressed kernel in four bytes.
    return image[begin : begin + length - 4]


def unzstd(data: bytes) -> bytes:
    program = ["zstd", "--decompress", "--stdout", "--quiet"]
    result = subprocess.run(program, input=data, capture_output=True, check=False)
    if result.returncode != 0:
        raise report.BuildError(f"zstd cannot decompress Debian's kernel: {result.stderr.decode(errors='replace')}")
    return result.stdout
