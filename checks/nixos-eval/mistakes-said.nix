# What each mistake's error has to say.
{ nixpkgs, words }:
builtins.mapAttrs (_: case: case.says) (
  import ./mistakes.nix (import ./evaluate.nix { inherit nixpkgs words; })
)
