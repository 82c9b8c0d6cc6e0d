# A service that runs but does not answer is restarted, whether the gateway or mcp-proxy serves HTTP.
let
  agent = {
    imports = [ ../nixos-lib/agent.nix ];
    services.agent-mcp.healthCheck.interval = 20;
  };
in
{
  nodes = {
    machine = agent;
    proxied = {
      imports = [ agent ];
      services.agent-mcp.proxy = "mcp-proxy";
    };
  };
  testScript = ''
    main = "$(systemctl show -P MainPID agent-mcp)"
    start_all()
    for node, hang in (
        (machine, f"kill -STOP {main}"),
        (proxied, f"pkill -STOP --parent {main} --full mcp.proxy"),
    ):
        node.wait_for_unit("agent-mcp.service")
        assert node.succeed("systemctl show -P NRestarts agent-mcp").strip() == "0"
        node.succeed(hang)
    for node in (machine, proxied):
        node.wait_until_succeeds("journalctl --no-pager -u agent-mcp | grep 'Watchdog timeout'")
        node.wait_until_succeeds("test $(systemctl show -P NRestarts agent-mcp) -ge 1")
        node.wait_until_succeeds("systemctl is-active --quiet agent-mcp")
    proxied.succeed("journalctl --no-pager -u agent-mcp | grep 'mcp-proxy does not answer'")
    # Control: in the other machine the gateway itself hung.
    proxied.succeed("pgrep -u dev --full mcp.proxy")
    machine.succeed("pgrep -u dev --full agent-mcp")
    machine.fail("pgrep -u dev --full mcp.proxy")
  '';
}
