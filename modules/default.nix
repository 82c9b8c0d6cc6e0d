# What any NixOS machine may import: each part is off until it is enabled. vm-config.nix is not among them, as it
# makes the whole system an agent machine.
{
  _class = "nixos";
  imports = [
    ./agent-service.nix
    ./host.nix
  ];
}
