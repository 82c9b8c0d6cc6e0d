# ssh accepts only the host's keys, each for one account, and the agent cannot add another.
{
  nodes = {
    machine = ../nixos-lib/agent.nix;
    client = ../nixos-lib/client.nix;
  };
  testScript = ''
    start_all()
    machine.wait_for_unit("sshd.service")
    client.wait_for_unit("multi-user.target")
    client.wait_until_succeeds("nc -z -w 10 machine 22")

    # The guest uses the provided host key; otherwise ssh would fail here.
    assert client.succeed("agent-ssh user dev@machine id -un").strip() == "dev"
    client.fail("agent-ssh user root@machine true")
    # Root has a key of its own.
    assert client.succeed("agent-ssh root root@machine id -un").strip() == "root"
    client.fail("agent-ssh root dev@machine true")
    client.fail("agent-ssh stranger dev@machine true")
    refused = client.fail("agent-ssh stranger dev@machine true 2>&1")
    assert "Permission denied (publickey)" in refused, refused

    # The agent writes to sshd's default place, and tries to write to the file that sshd reads.
    key = client.succeed("ssh-keygen -y -f /tmp/key").strip()
    machine.succeed(f"as-dev 'mkdir -p /home/dev/.ssh && echo {key} >/home/dev/.ssh/authorized_keys && chmod -R go= /home/dev/.ssh'")
    client.fail("agent-ssh stranger dev@machine true")
    machine.fail(f"as-dev 'echo {key} >>/run/agent-vm/authorized_keys/dev'")
    machine.fail(f"as-dev 'echo {key} >/run/agent-vm/authorized_keys/root'")
    # Control: root adds the same line and the key is accepted.
    machine.succeed(f"echo {key} >>/run/agent-vm/authorized_keys/dev")
    client.succeed("agent-ssh stranger dev@machine true")
  '';
}
