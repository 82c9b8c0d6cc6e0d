# `system.build.vm`, nixpkgs' own run script.
{
  config.virtualisation.vmVariant = import ./qemu-vm.nix;
}
