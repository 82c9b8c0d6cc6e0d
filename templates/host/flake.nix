{
  description = "A NixOS host that runs a machine for each of several branches";

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
          agent-vm.nixosModules.host
          {
            # Each instance is a unit, agent-vm-NAME.service, with its own account. Its ports are on 127.0.0.1.
            services.agent-vms = {
              enable = true;
              instances = {
                app-main = {
                  repository = "/srv/git/app";
                  branch = "main";
                  port = 8000;
                };
                app-next = {
                  repository = "/srv/git/app";
                  branch = "next";
                  port = 8001;
                  # Start it with: systemctl start agent-vm-app-next
                  autostart = false;
                  resources.memory = 2048;
                };
              };
            };
            security.apparmor.enable = true;

            # Replace these with your hardware-configuration.nix.
            boot.loader.grub.enable = false;
            fileSystems."/" = {
              device = "/dev/disk/by-label/nixos";
              fsType = "ext4";
            };
            nixpkgs.hostPlatform = system;
            system.stateVersion = "26.05";
          }
        ];
      };

      checks.${system}.default = self.nixosConfigurations.example.config.system.build.toplevel;
    };
}
