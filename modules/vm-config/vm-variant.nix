# `system.build.vm`, nixpkgs' own run script.
{
  config.virtualisation.vmVariant =
    { lib, ... }@arguments:
    let
      machine = import ./qemu-vm.nix arguments;
    in
    {
      imports = [ machine ];
      # The workspace and nothing else of the host's: nixpkgs' own shares give the guest's root the host's modes.
      virtualisation.sharedDirectories = lib.mkForce machine.config.virtualisation.sharedDirectories;
    };
}
