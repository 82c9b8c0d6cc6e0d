# The gateway passes progress, cancellation and questions of a server, keeps clients apart, and survives a server that dies.
{
  nodes = {
    machine =
      { lib, pkgs, ... }:
      {
        imports = [ ../nixos-lib/agent.nix ];
        services.agent-mcp.servers.talkative = {
          command = lib.getExe pkgs.python3;
          args = [ "${../nixos-lib/talkative_server.py}" ];
        };
      };
    client = ../nixos-lib/client.nix;
  };
  testScript = ''
    start_all()
    machine.wait_for_unit("agent-mcp.service")
    machine.wait_for_unit("agent-mcp-gate.service")
    client.wait_for_unit("multi-user.target")
    said = client.succeed("gateway-client https://machine:8000/servers/talkative/mcp", timeout=600)
    assert "all passed" in said, said
    machine.wait_for_file("/workspace/cancelled", timeout=60)
    # The server that died is reported.
    state = machine.succeed("journalctl --no-pager -u agent-mcp")
    assert "talkative" in state and "exited with status 3" in state, state
    # Control: nothing answers without the token.
    assert client.succeed("mcp-status https://machine:8000/servers/talkative/mcp").strip() == "401"
  '';
}
