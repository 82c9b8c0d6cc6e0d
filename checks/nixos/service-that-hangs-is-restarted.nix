# A service that runs but does not answer fails its health check and is restarted.
{
  nodes.machine = {
    imports = [ ../nixos-lib/agent.nix ];
    services.agent-mcp.healthCheck.interval = 20;
  };
  testScript = ''
    machine.wait_for_unit("agent-mcp.service")
    assert machine.succeed("systemctl show -P NRestarts agent-mcp").strip() == "0"
    machine.succeed("pkill -STOP --parent $(systemctl show -P MainPID agent-mcp) --full mcp.proxy")
    machine.wait_until_succeeds("journalctl --no-pager -u agent-mcp | grep 'Watchdog timeout'")
    machine.wait_until_succeeds("test $(systemctl show -P NRestarts agent-mcp) -ge 1")
    machine.wait_until_succeeds("systemctl is-active --quiet agent-mcp")
  '';
}
