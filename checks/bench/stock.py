"""The stock machine: the same packages with Debian's default configuration."""

import json
import os
import shlex
import subprocess
import time
from pathlib import Path

from probes import free_port, until_mcp, until_ssh

ROOT = Path(__file__).resolve().parents[2]

UNIT = """[Unit]
After=network-online.target
Wants=network-online.target
[Service]
User=dev
WorkingDirectory=/workspace
Environment=PYTHONPATH=/opt/python
ExecStart=/usr/bin/python3 -m mcp_proxy --pass-environment --host=0.0.0.0 --port=8000 -- /usr/bin/python3 -c "import codemcp; codemcp.cli()"
Restart=always
RestartSec=5
[Install]
WantedBy=multi-user.target
"""

NETWORK = """[Match]
Name=en* eth*
[Network]
DHCP=yes
"""


def manifest() -> dict:
    """Returns the toolkit's spec of the Debian guest, for its packages and the versions from PyPI."""
    nix = ["nix", "--extra-experimental-features", "nix-command flakes", "eval", "--json", "--impure", "--expr"]
    expression = f"(import {ROOT}/lib).debianGuest {{ }}"
    config = {"NIX_CONFIG": "substitute = false\nbuild-users-group ="}
    return json.loads(subprocess.run([*nix, expression], check=True, capture_output=True, env=os.environ | config).stdout)


class StockGuest:
    """A guest that is built once. Each run boots from a temporary copy of its disk."""

    def __init__(self, directory: Path, memory: int, cores: int) -> None:
        self.directory = directory / "stock"
        self.directory.mkdir()
        self.memory, self.cores = memory, cores
        self.key = self.directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.build()

    def build(self) -> None:
        spec = manifest()["image"]["spec"]
        packages = {*spec["packages"], "linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv", "udev", "dbus",
                    "systemd-resolved", "python3-pip"}
        python = self.directory / "python"
        subprocess.run(["/usr/bin/python3", "-m", "pip", "install", "--quiet", "--target", python, "--no-compile",
                        "--require-hashes", "--ignore-requires-python", "--only-binary=:all:", "--python-version", spec["python"]["version"], "--implementation", "cp",
                        *(f"--platform={name}" for name in spec["python"]["platforms"]),
                        "-r", ROOT / "lib/debian/requirements.txt", "-r", ROOT / "lib/debian/mcp-proxy.txt", "--no-deps"], check=True)
        (self.directory / "unit").write_text(UNIT)
        (self.directory / "network").write_text(NETWORK)
        inside = "; ".join([
            "useradd --create-home --shell /bin/bash dev",
            "mkdir -p /workspace /home/dev/.ssh",
            "git init --quiet /workspace",
            "mv /key.pub /home/dev/.ssh/authorized_keys",
            "chown -R dev: /workspace /home/dev",
            # As pip in the guest would.
            "python3 -m compileall -q /opt/python || true",
            "systemctl enable mcp systemd-networkd ssh",
        ])
        upload = [(self.directory / "unit", "/etc/systemd/system/mcp.service"),
                  (self.directory / "network", "/etc/systemd/network/80-dhcp.network"),
                  (self.key.with_suffix(".pub"), "/key.pub")]
        hooks = [f"upload {shlex.quote(str(source))} {target}" for source, target in upload]
        hooks += [f'cp -r {shlex.quote(str(python))} "$1/opt/python"', f'chroot "$1" sh -ec {shlex.quote(inside)}']
        tar = self.directory / "root.tar"
        mode = "root" if os.geteuid() == 0 else "unshare"
        subprocess.run(["mmdebstrap", "--quiet", f"--mode={mode}", "--variant=minbase", f"--include={','.join(sorted(packages))}",
                        *(f"--customize-hook={hook}" for hook in hooks), spec["suite"], tar], check=True)
        root = self.directory / "root"
        root.mkdir()
        subprocess.run(["tar", "-C", root, "-xf", tar, "--exclude=./dev/*"], check=True)
        tar.unlink()
        for name in ("vmlinuz", "initrd.img"):
            found = next((root / "boot").glob(f"{name}-*"))
            (self.directory / name).write_bytes(found.read_bytes())
        self.disk = self.directory / "disk.img"
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, self.disk, "3G"], check=True)
        subprocess.run(["rm", "-rf", root, python], check=True)

    def measure(self) -> tuple[float, float]:
        ssh, mcp = free_port(), free_port()
        command = [
            "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", str(self.cores), "-m", str(self.memory),
            "-nodefaults", "-display", "none", "-serial", f"file:{self.directory / 'console.log'}",
            "-kernel", self.directory / "vmlinuz", "-initrd", self.directory / "initrd.img",
            "-append", "root=/dev/vda rw console=ttyS0",
            "-drive", f"if=virtio,format=raw,snapshot=on,file={self.disk}",
            "-netdev", f"user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:{ssh}-:22,hostfwd=tcp:127.0.0.1:{mcp}-:8000",
            "-device", "virtio-net-pci,netdev=net0",
        ]
        begun = time.monotonic()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as qemu:
            try:
                login = until_ssh(ssh, self.key) - begun
                answer = until_mcp(mcp) - begun
            finally:
                qemu.kill()
        return login, answer
