# services.agent-mcp: MCP servers for coding agents as one hardened service. Needs no virtual machine.
{
  _class = "nixos";
  # A flake's output and a path may import this module twice; the key makes them one.
  key = "agent-vm/agent-service";
  imports = [
    ./agent-service/options.nix
    ./agent-service/reverse-proxy-options.nix
    ./agent-service/servers.nix
    ./agent-service/known-servers.nix
    ./agent-service/service.nix
    ./agent-service/reverse-proxy.nix
    ./agent-service/user.nix
    ./agent-service/assertions.nix
  ];
}
