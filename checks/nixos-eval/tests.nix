# The modules on a real NixOS module system: a list of what is not as it must be, as lib.runTests gives it.
{ nixpkgs, words }:
let
  evaluate = import ./evaluate.nix { inherit nixpkgs words; };
in
evaluate.lib.runTests (
  import ./service.nix evaluate
  // import ./gate.nix evaluate
  // import ./machine.nix evaluate
  // import ./host.nix evaluate
)
