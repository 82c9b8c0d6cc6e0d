{
  description = "MCP servers for coding agents as a service of a NixOS machine";

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
    in
    {
      nixosConfigurations.example = nixpkgs.lib.nixosSystem {
        modules = [
          agent-vm.nixosModules.agent-service
          (
            { pkgs, ... }:
            {
              # The service has its own account and listens on 127.0.0.1:8000.
              services.agent-mcp = {
                enable = true;
                workspaceDir = "/srv/workspace";
                # More servers, each at /servers/NAME/mcp.
                servers.time.command = nixpkgs.lib.getExe pkgs.mcp-server-time;
                resources.memoryMax = "2G";
              };

              # Replace these with your hardware-configuration.nix.
              boot.loader.grub.enable = false;
              fileSystems."/" = {
                device = "/dev/disk/by-label/nixos";
                fsType = "ext4";
              };
              nixpkgs.hostPlatform = system;
              system.stateVersion = "26.05";
            }
          )
        ];
      };

      checks.${system}.default = self.nixosConfigurations.example.config.system.build.toplevel;
    };
}
