# Modules for any NixOS machine; each is off until it is enabled. vm-config.nix is not included, because it
# makes the whole system an agent machine.
{
  _class = "nixos";
  imports = [
    ./agent-service.nix
    ./host.nix
  ];
}
