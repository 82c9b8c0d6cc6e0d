# The agent can edit files from the host, the agent's files belong to the user who runs the machine, and root in the machine
# cannot create devices or setuid files on the host.
{
  nodes.machine = ../nixos-lib/agent.nix;
  testScript = ''
    import os
    import stat

    shared = machine.shared_dir
    (shared / "from-host").write_text("from the host\n")
    machine.start()
    machine.wait_for_unit("agent-mcp.service")

    def as_agent(command: str) -> str:
        return machine.succeed(f"as-dev '{command}'")

    assert as_agent("cat /workspace/from-host") == "from the host\n"
    as_agent("echo edited >>/workspace/from-host")
    assert (shared / "from-host").read_text() == "from the host\nedited\n"
    as_agent("mkdir /workspace/directory && echo new >/workspace/directory/from-agent")
    made = shared / "directory" / "from-agent"
    assert made.read_text() == "new\n"
    assert machine.succeed("stat -c %U:%G /workspace/directory/from-agent").strip() == "dev:dev"
    assert made.stat().st_uid == os.getuid(), made.stat()

    # Control: on the machine's own file system, these commands create a device and a setuid file.
    for directory in ("/run", "/workspace"):
        machine.execute(f"mknod {directory}/device b 1 1; mkfifo {directory}/fifo")
        machine.execute(f"install -m 4755 -o root /run/current-system/sw/bin/true {directory}/setuid")
        machine.execute(f"ln -s /etc/passwd {directory}/link")
    assert stat.S_ISBLK(int(machine.succeed("stat -c %f /run/device"), 16))
    assert int(machine.succeed("stat -c %a /run/setuid"), 8) & stat.S_ISUID
    entries = [entry for entry in shared.iterdir() if entry.name in ("device", "fifo", "setuid", "link")]
    machine.log(f"on the host: {[(entry.name, oct(entry.lstat().st_mode)) for entry in entries]}")
    assert any(entry.name == "setuid" for entry in entries), "no file was created on the share"
    for entry in entries:
        mode = entry.lstat().st_mode
        assert not stat.S_ISBLK(mode) and not mode & (stat.S_ISUID | stat.S_ISGID), (entry, oct(mode))
        assert entry.lstat().st_uid == os.getuid(), entry
  '';
}
