# The texts that each mistake's error must contain.
{ nixpkgs, words }:
builtins.mapAttrs (_: case: case.says) (
  import ./mistakes.nix (import ./evaluate.nix { inherit nixpkgs words; })
)
