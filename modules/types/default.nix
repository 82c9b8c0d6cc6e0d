# Option types of these modules; every one says what to write where a value is wrong.
{ lib }:
import ./checked.nix { inherit lib; }
// import ./numbers.nix { inherit lib; }
// import ./paths.nix { inherit lib; }
// import ./network.nix { inherit lib; }
// import ./names.nix { inherit lib; }
