# Settings for `system.build.vm`, nixpkgs' own run script.
{
  config.virtualisation.vmVariant =
    { lib, ... }@arguments:
    let
      machine = import ./qemu-vm.nix arguments;
    in
    {
      imports = [ machine ];
      # Share only the workspace: nixpkgs' default shares apply the host's file modes to the guest's root.
      virtualisation.sharedDirectories = lib.mkForce machine.config.virtualisation.sharedDirectories;
    };
}
