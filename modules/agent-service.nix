# services.agent-mcp: MCP servers for coding agents as one hardened service. Needs no virtual machine.
{
  _class = "nixos";
  # Two ways may lead to one module, a flake's output and a path; it is the same one.
  key = "agent-vm/agent-service";
  imports = [
    ./agent-service/options.nix
    ./agent-service/gate-options.nix
    ./agent-service/servers.nix
    ./agent-service/known-servers.nix
    ./agent-service/service.nix
    ./agent-service/gate.nix
    ./agent-service/user.nix
    ./agent-service/assertions.nix
  ];
}
