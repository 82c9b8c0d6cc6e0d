# docs/reference/options.md, given nixpkgs' library alone.
{ lib }:
let
  # No default of an option is looked at where it has a text; packages are only named there.
  pkgs = throw "an option's default reads pkgs and has no defaultText";
  evaluated = lib.evalModules {
    modules = [
      {
        _module.check = false;
        _module.args.pkgs = pkgs;
      }
      ../modules/agent-service/options.nix
      ../modules/agent-service/gate-options.nix
      ../modules/agent-service/servers.nix
      ../modules/host/options.nix
      ../modules/vm-config/options.nix
    ];
  };
in
import ./options-markdown.nix { inherit lib; } evaluated.options
