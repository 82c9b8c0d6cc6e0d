{
  description = "Ten NixOS hosts that run agent machines, deployed with colmena";

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
      inherit (nixpkgs) lib;

      # What each host runs. A machine belongs to one host: its workspace and its disk are there.
      repositories = {
        host01 = [ "app" ];
        host02 = [ "app" ];
        host03 = [ "app" ];
        host04 = [ "web" ];
        host05 = [ "web" ];
        host06 = [ "web" ];
        host07 = [ "data" ];
        host08 = [ "data" ];
        host09 = [ "docs" ];
        host10 = [
          "docs"
          "web"
        ];
      };

      # What all hosts have in common.
      common =
        { name, ... }:
        {
          imports = [ agent-vm.nixosModules.host ];

          networking.hostName = name;
          security.apparmor.enable = true;

          services.agent-vms = {
            enable = true;
            kvmUsers = [ "me" ];
            # Each instance is a unit, agent-vm-NAME.service. A deployment does not restart it: an agent may be at work.
            instances = lib.listToAttrs (
              lib.imap0 (
                index: repository:
                lib.nameValuePair "${repository}-main" {
                  repository = "/srv/git/${repository}.git";
                  branch = "main";
                  port = 8000 + index;
                  # The guest is part of the host's closure: colmena builds it once and copies it to all hosts.
                  config = { };
                  resources = {
                    memory = 4096;
                    cores = 4;
                    memoryMax = "6G";
                    cpuQuota = "400%";
                  };
                  egress.allow = [ "@npm" ];
                }
              ) repositories.${name}
            );
          };

          # How people and colmena reach the host. Machines listen on 127.0.0.1 only.
          services.openssh = {
            enable = true;
            settings.PasswordAuthentication = false;
          };
          users.users.root.openssh.authorizedKeys.keys = [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA replace-me"
          ];

          # Who works with the machines: replace the key. Linger, and kvmUsers, are for machines that they create themselves.
          users.users.me = {
            isNormalUser = true;
            linger = true;
            openssh.authorizedKeys.keys = [
              "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA replace-me"
            ];
          };
          # A declared machine is used as its own account: sudo -u agent-vm-NAME agent-vm --state-dir /var/lib/agent-vms/NAME …
          security.sudo.extraRules = [
            {
              users = [ "me" ];
              runAs = lib.concatMapStringsSep "," (
                repository: "agent-vm-${repository}-main"
              ) repositories.${name};
              commands = [
                {
                  command = "ALL";
                  options = [ "NOPASSWD" ];
                }
              ];
            }
          ];

          # Replace these with each host's hardware-configuration.nix.
          boot.loader.grub.enable = false;
          fileSystems."/" = {
            device = "/dev/disk/by-label/nixos";
            fsType = "ext4";
          };
          nixpkgs.hostPlatform = system;
          system.stateVersion = "26.05";
        };

      hosts = builtins.attrNames repositories;
    in
    {
      # For nixos-rebuild, and for the check below.
      nixosConfigurations = lib.genAttrs hosts (
        name:
        lib.nixosSystem {
          specialArgs = { inherit name; };
          modules = [ common ];
        }
      );

      # For colmena: colmena apply --on @app
      colmena = {
        meta.nixpkgs = nixpkgs.legacyPackages.${system};
      }
      // lib.genAttrs hosts (name: {
        imports = [ common ];
        deployment = {
          targetHost = "${name}.example.org";
          targetUser = "root";
          tags = repositories.${name};
        };
      });

      # One host of each kind: the others differ in names only.
      checks.${system}.default = self.nixosConfigurations.host10.config.system.build.toplevel;
    };
}
