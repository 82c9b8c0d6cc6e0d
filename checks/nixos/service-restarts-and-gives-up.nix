# systemd restarts a killed service, and stops restarting one that cannot start after StartLimitBurst attempts.
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

    # A stop leaves no failure and no process.
    machine.succeed("systemctl stop agent-mcp")
    assert machine.succeed("systemctl show -P Result agent-mcp").strip() == "success"
    machine.fail("pgrep -u dev")

    # The port is in use, so each start fails at once.
    machine.succeed("systemd-run --unit occupied ${pkgs.python3}/bin/python3 -m http.server 8001 --bind 127.0.0.1 --directory /var/empty")
    machine.wait_until_succeeds("bash -c ': </dev/tcp/127.0.0.1/8001'")
    machine.succeed("mkdir -p /run/systemd/system/agent-mcp.service.d")
    # A lower limit than the policy's, so that the test ends soon; the mechanism is the same.
    machine.succeed(
        "printf '[Unit]\nStartLimitBurst=3\nStartLimitIntervalSec=1h\n[Service]\nRestartSec=1\n' >/run/systemd/system/agent-mcp.service.d/fast.conf"
    )
    machine.succeed("systemctl daemon-reload")
    machine.execute("systemctl start --no-block agent-mcp")
    # Between two attempts, the state is "activating", not "failed".
    machine.wait_until_succeeds("systemctl is-failed --quiet agent-mcp")
    machine.succeed("journalctl --no-pager -u agent-mcp | grep 'Start request repeated too quickly'")
  '';
}
