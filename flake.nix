{
  description = "Every git branch gets its own virtual machine for coding agents and their MCP servers";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      ofSystems = nixpkgs.lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
      eachSystem = f: ofSystems (system: f nixpkgs.legacyPackages.${system} self.packages.${system});
      app = program: description: {
        type = "app";
        inherit program;
        meta.description = description;
      };
      # lib uses only builtins, so outputs that do not need nixpkgs evaluate without fetching it.
      lib = import ./lib;
    in
    {
      lib = lib // {
        mkAgentVm = lib.mkAgentVm { inherit (nixpkgs.lib) nixosSystem; };
        mkMCPDevServers = lib.mkMCPDevServers { inherit (nixpkgs.lib) nixosSystem; };
      };

      nixosModules = {
        default = ./modules;
        agent-service = ./modules/agent-service.nix;
        vm-config = ./modules/vm-config.nix;
        host = ./modules/host.nix;
      };

      overlays.default = import ./modules/packages/overlay.nix;

      templates = import ./templates;

      packages = eachSystem (
        pkgs: packages: {
          default = packages.agent-vm;
          agent-vm = pkgs.callPackage ./agent-vm-rs/package.nix { };
          agent-mcp = pkgs.callPackage ./modules/packages/agent-mcp.nix { };
          codemcp = pkgs.callPackage ./modules/packages/codemcp.nix { };
          mcp-selenium = pkgs.callPackage ./modules/packages/mcp-selenium.nix { };
          agent-direct = self.lib.mkMCPDevServers {
            name = "agent-direct";
            inherit pkgs;
            shell = self.devShells.${pkgs.stdenv.hostPlatform.system}.default;
          };
        }
      );

      apps = eachSystem (
        pkgs: packages: rec {
          default = agent;
          agent = app (pkgs.lib.getExe packages.agent-vm) "Create and start a machine for the current branch, or show its status";
          agent-vm = agent;
          agent-direct = app (pkgs.lib.getExe packages.agent-direct) "Run the MCP servers on this host, without a machine";
          integration-test = app (pkgs.lib.getExe (
            pkgs.callPackage ./checks/integration-test.nix { inherit (packages) agent-vm; }
          )) "Create, use and destroy a machine for a temporary repository";
        }
      );

      devShells = eachSystem (pkgs: _: { default = pkgs.callPackage ./checks/dev-shell.nix { }; });

      formatter = eachSystem (pkgs: _: pkgs.nixfmt-tree);

      checks = ofSystems (
        system:
        import ./checks {
          inherit self system;
          pkgs = nixpkgs.legacyPackages.${system};
          packages = self.packages.${system};
        }
      );
    };
}
