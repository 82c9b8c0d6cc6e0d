"""The last build step, executed in the new root file system by the guest's Python.

It downloads the kernel, removes unneeded files, and creates the spec's files, links and accounts.
"""

import glob
import hashlib
import json
import lzma
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

STAGE = Path("/.agent-vm")
sys.path.insert(0, str(STAGE))

import initrd  # noqa: E402 - isolated mode ignores this file's directory


def main() -> None:
    os.umask(0o022)
    spec = json.loads((STAGE / "spec.json").read_text())
    install_kernel(spec["kernel"])
    # The host reads this list and refuses unknown package names at `create`.
    (STAGE / "packages.txt").write_text("".join(sorted(run("apt-cache", "pkgnames").splitlines(keepends=True))))
    add_user(spec["user"])
    for name in spec["serviceAccounts"]:
        add_service_account(name)
    keep_package_state(spec["packageState"], (STAGE / "spec.json").read_bytes())
    for pattern in spec["remove"]:
        for path in glob.glob(pattern):
            remove(Path(path))
    for path, file in spec["files"].items():
        write(Path(path), file["text"], int(file.get("mode", "0644"), 8))
    for path in spec["directories"]:
        Path(path).mkdir(parents=True, exist_ok=True)
    for path, target in spec["links"].items():
        remove(Path(path))
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).symlink_to(target)
    installations = spec["python"]["installations"]
    for installation in installations:
        for name, entry in installation["programs"].items():
            write(Path("/usr/local/bin") / name, program(entry, installation["directory"]), 0o755)
    for path in sorted(Path(spec["programs"]).iterdir()):
        require_runs(path)
    drop_setuid()
    compile_python([installation["directory"] for installation in installations])


def keep_package_state(paths: dict, spec: bytes) -> None:
    """Keep what dpkg knows of the image, and give the image a name by which root's changes are known to belong to it."""
    known = [path for path in ("lib/dpkg", "lib/pam", "lib/ucf", "cache/debconf") if Path("/var", path).exists()]
    Path(paths["archive"]).parent.mkdir(parents=True, exist_ok=True)
    run("tar", "-C", "/", "-czf", paths["archive"], *(f"var/{path}" for path in known))
    name = hashlib.sha256(spec + Path("/var/lib/dpkg/status").read_bytes()).hexdigest()[:32]
    write(Path(paths["id"]), name + "\n", 0o644)


def require_runs(program: Path) -> None:
    """Refuse a program that the host compiled for a newer C library than the guest's."""
    tried = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise SystemExit(f"{program} does not run in the guest: {tried.stderr.strip()}")


def run(*argv: str, **options) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Debian may have a symbolic link in this place; writing must not follow it.
    remove(path)
    path.write_text(text)
    path.chmod(mode)


def program(entry: str, directory: str) -> str:
    """
    Return the script for an entry point "module:function" in `directory`. Unlike pip's script, it disables garbage collection
    during imports, where it finds nothing and takes a sixth of the start-up time.
    """
    module, function = entry.split(":")
    return "\n".join(
        [
            # Isolated mode: modules in the caller's home directory are ignored.
            "#!/usr/bin/python3 -I",
            "import gc",
            "import sys",
            "",
            *([] if directory in sys.path else [f"sys.path.insert(0, {directory!r})"]),
            "gc.disable()",
            f"from {module} import {function}",
            "",
            "gc.freeze()",
            "gc.enable()",
            f"sys.exit({function}())",
            "",
        ]
    )


def add_user(user: dict) -> None:
    run("groupadd", "--gid", str(user["gid"]), user["name"])
    run(
        *("useradd", "--uid", str(user["uid"]), "--gid", user["name"], "--groups", ",".join(user["extraGroups"])),
        *("--home-dir", user["home"], "--no-create-home", "--shell", "/bin/bash"),
        # No password, rather than a locked account: sshd refuses a locked one even with a key.
        *("--password", "*", user["name"]),
    )


def add_service_account(name: str) -> None:
    run(
        *("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"),
        *("--shell", "/usr/sbin/nologin", name),
    )


def install_kernel(kernel: dict) -> None:
    """
    Unpack the kernel and its modules without installing the package, which would also install initramfs-tools and build an
    initrd.
    """
    depends = run("apt-cache", "show", "--no-all-versions", kernel["package"])
    line = next(line for line in depends.splitlines() if line.startswith("Depends:"))
    package = next(word for word in line.replace(",", " ").split() if word.startswith("linux-image-"))
    unpacked = STAGE / "kernel"
    unpacked.mkdir()
    # As root, because apt's own user cannot write here.
    run("apt-get", "download", "-o", "APT::Sandbox::User=root", "--quiet", package, cwd=STAGE)
    (archive,) = STAGE.glob("linux-image-*.deb")
    run("dpkg-deb", "--extract", str(archive), str(unpacked))
    (image,) = unpacked.glob("boot/vmlinuz-*")
    image.rename(STAGE / "vmlinuz")
    (release,) = [*unpacked.glob("usr/lib/modules/*"), *unpacked.glob("lib/modules/*")]
    modules = Modules(release)
    modules.install(kernel["modules"])
    if kernel["initrd"] is not None:
        paths = modules.install(kernel["initrd"]["modules"])
        (STAGE / "initrd").write_bytes(initrd.make(kernel["initrd"]["init"], paths))


class Modules:
    """Installs kernel modules and their dependencies."""

    def __init__(self, source: Path):
        self._source = source
        self._target = Path("/usr/lib/modules") / source.name
        self._installed: dict[str, Path] = {}
        run("depmod", "--basedir", str(relative_root(source)), source.name)
        self._needs: dict[str, tuple[str, list[str]]] = {}
        for line in (source / "modules.dep").read_text().splitlines():
            path, _, dependencies = line.partition(":")
            self._needs[module_name(path)] = (path, [module_name(word) for word in dependencies.split()])
        self._builtin = {module_name(line) for line in (source / "modules.builtin").read_text().splitlines()}

    def install(self, wanted: list[str]) -> list[Path]:
        """Return the files of the wanted modules, each after its dependencies."""
        order: list[Path] = []
        for name in wanted:
            self._add(name.replace("-", "_"), order)
        for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            shutil.copy(self._source / name, self._target)
        run("depmod", self._target.name)
        return order

    def _add(self, name: str, order: list[Path]) -> None:
        if name in self._builtin:
            return
        if name not in self._needs:
            raise SystemExit(f"Debian's kernel {self._source.name} has no module {name}")
        path, dependencies = self._needs[name]
        for dependency in dependencies:
            self._add(dependency, order)
        if name not in self._installed:
            # Uncompressed, because decompression is slow on an emulated processor.
            data = (self._source / path).read_bytes()
            out = self._target / path.removesuffix(".xz")
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(lzma.decompress(data) if path.endswith(".xz") else data)
            self._installed[name] = out
        if self._installed[name] not in order:
            order.append(self._installed[name])


def relative_root(source: Path) -> Path:
    """Return a root directory whose lib/modules/<release> is `source`, the only layout that depmod reads."""
    root = STAGE / "depmod"
    (root / "lib").mkdir(parents=True)
    (root / "lib/modules").symlink_to(source.parent)
    return root


def module_name(path: str) -> str:
    return Path(path).name.split(".")[0].replace("-", "_")


def drop_setuid() -> None:
    """Remove setuid and setgid bits: no account has a password, so no program may raise its caller's privileges."""
    for directory, _, names in os.walk("/usr"):
        for name in names:
            path = Path(directory, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(stat.S_IMODE(mode) & 0o777)


def compile_python(directories: list[str]) -> None:
    """Compile Python's modules without a check against the source: the image never changes, and checks cost system calls."""
    argv = ["/usr/bin/python3", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    # Some packages contain files for other Python versions; they fail to compile and give status 1.
    subprocess.run([*argv, *directories], check=False)


main()
