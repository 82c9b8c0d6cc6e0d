# A service that was killed comes back; one that cannot come up is given up after its limit.
{ pkgs, ... }:
{
  nodes.machine = ../nixos-lib/agent.nix;
  testScript = ''
    machine.wait_for_unit("agent-mcp.service")
    before = machine.succeed("systemctl show -P MainPID agent-mcp").strip()
    machine.succeed(f"kill -KILL {before}")
    machine.wait_until_fails(f"systemctl show -P MainPID agent-mcp | grep -qx {before}")
    machine.wait_until_succeeds("systemctl is-active --quiet agent-mcp")
    assert machine.succeed("systemctl show -P MainPID agent-mcp").strip() not in ("0", before)

    # A stop is clean: no failure, nothing left.
    machine.succeed("systemctl stop agent-mcp")
    assert machine.succeed("systemctl show -P Result agent-mcp").strip() == "success"
    machine.fail("pgrep -u dev")

    # Its port is taken, so that it fails at once, each time.
    machine.succeed("systemd-run --unit thief ${pkgs.python3}/bin/python3 -m http.server 8001 --bind 127.0.0.1 --directory /var/empty")
    machine.wait_until_succeeds("bash -c ': </dev/tcp/127.0.0.1/8001'")
    machine.succeed("mkdir -p /run/systemd/system/agent-mcp.service.d")
    # Fewer than the policy's own, and however long a start takes here; the limit itself is the same mechanism.
    machine.succeed(
        "printf '[Unit]\nStartLimitBurst=3\nStartLimitIntervalSec=1h\n[Service]\nRestartSec=1\n' >/run/systemd/system/agent-mcp.service.d/fast.conf"
    )
    machine.succeed("systemctl daemon-reload")
    machine.execute("systemctl start --no-block agent-mcp")
    # Between two tries it is "activating", not "failed".
    machine.wait_until_succeeds("systemctl is-failed --quiet agent-mcp")
    machine.succeed("journalctl --no-pager -u agent-mcp | grep 'Start request repeated too quickly'")
  '';
}
