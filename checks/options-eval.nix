# Returns the text of docs/reference/options.md. Needs only nixpkgs' lib.
{ lib }:
let
  # Options with a defaultText do not evaluate their default, so pkgs is not needed.
  pkgs = throw "the default of an option uses pkgs; add a defaultText";
  evaluated = lib.evalModules {
    modules = [
      {
        _module.check = false;
        _module.args.pkgs = pkgs;
      }
      ../modules/agent-service/options.nix
      ../modules/agent-service/reverse-proxy-options.nix
      ../modules/agent-service/servers.nix
      ../modules/host/options.nix
      ../modules/vm-config/options.nix
    ];
  };
in
import ./options-markdown.nix { inherit lib; } evaluated.options
