# Tests the modules on NixOS's module system. Returns a list of failures, as lib.runTests does.
{ nixpkgs, words }:
let
  evaluate = import ./evaluate.nix { inherit nixpkgs words; };
in
evaluate.lib.runTests (
  import ./service.nix evaluate
  // import ./reverse-proxy.nix evaluate
  // import ./machine.nix evaluate
  // import ./host.nix evaluate
)
