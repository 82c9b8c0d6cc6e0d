"""Reaches a machine with paramiko, by ssh's configuration: runs `id -un`, then copies a file there and back over SFTP.

    ssh-library CONFIG HOST FILE

It prints the command's output. CONFIG is what `agent-vm ssh-config` writes, HOST an alias in it.
"""

import sys
import tempfile
from pathlib import Path

import paramiko


def connect(config_file: str, alias: str) -> paramiko.SSHClient:
    """Returns a connection; raises if the host's key is not the pinned one."""
    settings = paramiko.SSHConfig.from_path(config_file).lookup(alias)
    client = paramiko.SSHClient()
    client.load_host_keys(settings["userknownhostsfile"].strip('"'))
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.connect(
        settings["hostname"],
        username=settings["user"],
        key_filename=[name.strip('"') for name in settings["identityfile"]],
        sock=paramiko.ProxyCommand(settings["proxycommand"]),
        allow_agent=False,
        look_for_keys=False,
    )
    return client


def main() -> int:
    config_file, alias, file = sys.argv[1:]
    with connect(config_file, alias) as client:
        _, output, _ = client.exec_command("id -un")
        print(output.read().decode(), end="")
        with client.open_sftp() as sftp, tempfile.TemporaryDirectory() as directory:
            back = Path(directory) / "back"
            sftp.put(file, "/workspace/by-library")
            sftp.get("/workspace/by-library", str(back))
            if back.read_bytes() != Path(file).read_bytes():
                raise SystemExit("error: the file that came back differs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
