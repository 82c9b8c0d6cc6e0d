{
  description = "A project whose MCP servers have its development shell";

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
      servers =
        name: useVM:
        agent-vm.lib.mkMCPDevServers {
          inherit name pkgs useVM;
          shell = self.devShells.${system}.default;
        };
    in
    {
      devShells.${system}.default = pkgs.mkShell {
        packages = [ pkgs.nodejs ];
      };

      packages.${system} = {
        default = self.packages.${system}.dev-servers;
        # The same servers in a machine and directly on the host. Arguments: [--port PORT] [--workspace DIR].
        dev-servers = servers "dev-servers" true;
        dev-servers-direct = servers "dev-servers-direct" false;
      };

      checks.${system}.default = pkgs.linkFarm "project" [
        {
          name = "vm";
          path = self.packages.${system}.dev-servers;
        }
        {
          name = "direct";
          path = self.packages.${system}.dev-servers-direct;
        }
      ];
    };
}
