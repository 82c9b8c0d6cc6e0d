# Functions that evaluate configurations for the tests.
{
  nixpkgs,
  # File with possible package names, one a line.
  words,
}:
let
  lib = import "${nixpkgs}/lib";
  # Fake packages, for a nixpkgs that has only lib/ and nixos/.
  pkgs =
    if builtins.pathExists "${nixpkgs}/pkgs/top-level/default.nix" then
      import nixpkgs {
        system = "x86_64-linux";
        config = { };
        overlays = [ ];
      }
    else
      import ./pkgs.nix {
        inherit lib;
        words = lib.splitString "\n" (builtins.readFile words);
      };

  eval =
    modules:
    (import "${nixpkgs}/nixos/lib/eval-config.nix" {
      inherit lib;
      system = null;
      modules = modules ++ [
        {
          nixpkgs.pkgs = pkgs;
          system.stateVersion = lib.trivial.release;
          documentation.enable = false;
        }
      ];
    }).config;

  wrong =
    config:
    map (assertion: assertion.message) (lib.filter (assertion: !assertion.assertion) config.assertions);
  mentions =
    words: messages: lib.any (message: lib.all (word: lib.hasInfix word message) words) messages;

  bare = {
    boot.loader.grub.enable = false;
    fileSystems."/".device = "/dev/vda";
    fileSystems."/".fsType = "ext4";
  };

  # A system with our modules and one more.
  withModules =
    module:
    eval [
      bare
      ../../modules
      module
    ];

  # services.agent-mcp on a machine of its own, with these settings.
  service =
    settings:
    withModules {
      services.agent-mcp = {
        enable = true;
      }
      // settings;
    };
  unitOf = config: config.systemd.services.agent-mcp.serviceConfig;
in
{
  inherit
    lib
    eval
    wrong
    mentions
    withModules
    service
    unitOf
    ;
  inherit nixpkgs pkgs;
  policy = import ../../lib/policy;
}
