# The service comes up, and a real MCP client calls a tool, over both transports.
{
  nodes = {
    machine = ../nixos-lib/agent.nix;
    client = ../nixos-lib/client.nix;
  };
  testScript = ''
    import json

    start_all()
    machine.wait_for_unit("agent-mcp.service")
    client.wait_for_unit("multi-user.target")
    for transport in ("mcp", "sse"):
        arguments = json.dumps({"path": f"/workspace/{transport}", "text": "written by a tool"})
        answer = client.succeed(f"mcp-call http://machine:8000/servers/echo/{transport} write '{arguments}'")
        assert "tools: write" in answer, answer
        # The tool ran as the agent's user, in the machine.
        assert "as 1000" in answer, answer
        machine.succeed(f"grep -qx 'written by a tool' /workspace/{transport}")
        assert machine.succeed(f"stat -c %U /workspace/{transport}").strip() == "dev"
    # The default server is another one.
    assert "tools: write" not in client.succeed("mcp-call http://machine:8000/mcp \"\" \"\"")
    # A foreign origin is refused by the browser that is told so; the header names none but the allowed one.
    headers = client.succeed("curl -s -i -H 'Origin: https://claude.ai' http://machine:8000/status")
    assert "access-control-allow-origin: https://claude.ai" in headers.lower(), headers
    headers = client.succeed("curl -s -i -H 'Origin: https://example.org' http://machine:8000/status")
    assert "access-control-allow-origin" not in headers.lower(), headers
  '';
}
