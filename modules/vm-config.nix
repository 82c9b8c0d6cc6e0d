# The agent machine: a complete NixOS system that serves one workspace to coding agents. A separate system imports it,
# never a host.
{
  _class = "nixos";
  key = "agent-vm/vm-config";
  imports = [
    ./agent-service.nix
    ./vm-config/options.nix
    (
      { lib, ... }:
      {
        inherit (import ./vm-config/fixed.nix { inherit lib; }) config;
      }
    )
    ./vm-config/service.nix
    ./vm-config/agents.nix
    ./vm-config/user.nix
    ./vm-config/egress.nix
    ./vm-config/time.nix
    ./vm-config/terminals.nix
    ./vm-config/ssh.nix
    ./vm-config/network.nix
    ./vm-config/kernel.nix
    ./vm-config/filesystems.nix
    ./vm-config/boot.nix
    ./vm-config/runner.nix
    ./vm-config/vm-variant.nix
    ./vm-config/assertions.nix
  ];
}
