# The flake's checks: every step of `checks/run` by its name, and checks that need nixpkgs. Listing the names needs no nixpkgs.
{
  self,
  system,
  pkgs,
  packages,
}:
let
  machines = import ./nixos {
    inherit self system pkgs;
  };
in
machines
// import ./named-steps.nix { inherit pkgs machines; }
// {
  agent-vm = packages.agent-vm;
  options-are-documented = pkgs.callPackage ./options.nix { };
  run-script-is-closed = import ./run-script.nix {
    inherit pkgs;
    inherit (self.inputs.nixpkgs.lib) nixosSystem;
  };
}
