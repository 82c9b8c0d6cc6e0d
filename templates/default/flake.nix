{
  description = "An agent machine";

  inputs.agent-vm.url = "github:agent-vm/agent-vm";
  # The nixpkgs that agent-vm is tested with.
  inputs.nixpkgs.follows = "agent-vm/nixpkgs";

  outputs =
    {
      self,
      agent-vm,
      nixpkgs,
    }:
    let
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};
    in
    {
      # The guest package that agent-vm starts: `nix build .#guest`.
      packages.${system} = {
        default = self.packages.${system}.guest;
        guest = agent-vm.lib.mkAgentVm {
          inherit system;
          # Packages for the agent and its MCP servers.
          packages = [
            pkgs.nodejs
            pkgs.ripgrep
          ];
          modules = [
            {
              # Another MCP server, at /servers/time/mcp. codemcp is at /mcp; the workspace's .mcp.json can add more.
              services.agent-mcp.servers.time.command = nixpkgs.lib.getExe pkgs.mcp-server-time;
            }
          ];
        };
      };

      checks.${system}.default = self.packages.${system}.guest;
    };
}
