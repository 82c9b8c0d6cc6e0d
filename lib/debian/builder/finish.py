"""The last step inside the new root file system, run there by the guest's own Python.

Fetches the kernel, removes what the spec does not want, and puts the spec's files, links and user there.
"""

import glob
import json
import lzma
import os
import shutil
import subprocess
from pathlib import Path

STAGE = Path("/.agent-vm")


def main() -> None:
    os.umask(0o022)
    spec = json.loads((STAGE / "spec.json").read_text())
    install_kernel(spec["kernel"])
    add_user(spec["user"])
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
    for name, entry in spec["python"]["programs"].items():
        write(Path("/usr/local/bin") / name, program(entry), 0o755)
    compile_python([spec["python"]["directory"], spec["library"]])


def run(*argv: str, **options) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A link of Debian's to a unit that is replaced here must not be followed.
    remove(path)
    path.write_text(text)
    path.chmod(mode)


def program(entry: str) -> str:
    """What pip makes of an entry point "module:function"."""
    module, function = entry.split(":")
    return f"#!/usr/bin/python3\nimport sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n"


def add_user(user: dict) -> None:
    run("groupadd", "--gid", str(user["gid"]), user["name"])
    run(
        *("useradd", "--uid", str(user["uid"]), "--gid", user["name"], "--groups", ",".join(user["extraGroups"])),
        *("--home-dir", user["home"], "--no-create-home", "--shell", "/bin/bash"),
        # No password, rather than a locked account: sshd refuses a locked one even with a key.
        *("--password", "*", user["name"]),
    )


def install_kernel(kernel: dict) -> None:
    """
    Unpack the kernel, with its modules. Not installed: its package would bring the programs that make an initrd,
    and make one.
    """
    depends = run("apt-cache", "show", "--no-all-versions", kernel["package"])
    line = next(line for line in depends.splitlines() if line.startswith("Depends:"))
    package = next(word for word in line.replace(",", " ").split() if word.startswith("linux-image-"))
    unpacked = STAGE / "kernel"
    unpacked.mkdir()
    # As root: apt's own user may not write here.
    run("apt-get", "download", "-o", "APT::Sandbox::User=root", "--quiet", package, cwd=STAGE)
    (archive,) = STAGE.glob("linux-image-*.deb")
    run("dpkg-deb", "--extract", str(archive), str(unpacked))
    (image,) = unpacked.glob("boot/vmlinuz-*")
    image.rename(STAGE / "vmlinuz")
    (release,) = [*unpacked.glob("usr/lib/modules/*"), *unpacked.glob("lib/modules/*")]
    install_modules(release, kernel["modules"])


def install_modules(source: Path, wanted: list[str]) -> None:
    """Keep the wanted modules with what they need, unpacked: the guest's emulated processor would take its time."""
    run("depmod", "--basedir", str(relative_root(source)), source.name)
    needs = {}
    for line in (source / "modules.dep").read_text().splitlines():
        path, _, dependencies = line.partition(":")
        needs[module_name(path)] = (path, [module_name(word) for word in dependencies.split()])
    builtin = {module_name(line) for line in (source / "modules.builtin").read_text().splitlines()}
    target = Path("/usr/lib/modules") / source.name
    todo = [name.replace("-", "_") for name in wanted]
    kept = set()
    while todo:
        name = todo.pop()
        if name in kept or name in builtin:
            continue
        if name not in needs:
            raise SystemExit(f"Debian's kernel {source.name} has no module {name}")
        kept.add(name)
        path, dependencies = needs[name]
        todo += dependencies
        data = (source / path).read_bytes()
        out = target / path.removesuffix(".xz")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(lzma.decompress(data) if path.endswith(".xz") else data)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(source / name, target)
    run("depmod", target.name)


def relative_root(source: Path) -> Path:
    """Root whose lib/modules/<release> is `source`; depmod looks nowhere else."""
    root = STAGE / "depmod"
    (root / "lib").mkdir(parents=True)
    (root / "lib/modules").symlink_to(source.parent)
    return root


def module_name(path: str) -> str:
    return Path(path).name.split(".")[0].replace("-", "_")


def compile_python(directories: list[str]) -> None:
    """Never checked against the source: neither changes, and each check is a system call of the guest's."""
    argv = ["/usr/bin/python3", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    # Some packages carry files for other versions of Python, on which this ends with status 1.
    subprocess.run([*argv, *directories], check=False)


main()
