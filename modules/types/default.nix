# Option types of these modules. Each error states what to write instead.
{ lib }:
import ./checked.nix { inherit lib; }
// import ./numbers.nix { inherit lib; }
// import ./paths.nix { inherit lib; }
// import ./network.nix { inherit lib; }
// import ./names.nix { inherit lib; }
// import ./modules.nix { inherit lib; }
// import ./sizes.nix { inherit lib; }
