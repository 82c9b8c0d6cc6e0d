# The service starts, and a real MCP client calls a tool over both transports through the reverse proxy.
{
  nodes = {
    machine = ../nixos-lib/agent.nix;
    client = ../nixos-lib/client.nix;
  };
  testScript = ''
    import json

    start_all()
    machine.wait_for_unit("agent-mcp.service")
    machine.wait_for_unit("agent-mcp-gate.service")
    client.wait_for_unit("multi-user.target")
    for transport in ("mcp", "sse"):
        arguments = json.dumps({"path": f"/workspace/{transport}", "text": "written by a tool"})
        answer = client.succeed(f"mcp-call https://machine:8000/servers/echo/{transport} write '{arguments}'")
        assert "tools: write" in answer, answer
        # The tool ran as the agent's user, in the machine.
        assert "as 1000" in answer, answer
        machine.succeed(f"grep -qx 'written by a tool' /workspace/{transport}")
        assert machine.succeed(f"stat -c %U /workspace/{transport}").strip() == "dev"
    # Control: the default server has other tools.
    assert "tools: write" not in client.succeed("mcp-call https://machine:8000/mcp \"\" \"\"")
    # The response allows the origin's pages to read it (CORS).
    headers = client.succeed(
        "mcp-status --dump-header - -H \"Authorization: Bearer $(mcp-token)\" -H 'Origin: https://claude.ai' https://machine:8000/status"
    )
    assert "access-control-allow-origin: https://claude.ai" in headers.lower(), headers
  '';
}
