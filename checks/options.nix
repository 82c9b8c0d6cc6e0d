# docs/options.md is what the modules say, and every option says something.
{ pkgs }:
let
  inherit (pkgs) lib;
  evaluated = lib.evalModules {
    modules = [
      {
        _module.check = false;
        _module.args = { inherit pkgs; };
      }
      ../modules/agent-service/options.nix
      ../modules/agent-service/servers.nix
      ../modules/host/options.nix
      ../modules/vm-config/options.nix
    ];
  };
  markdown = import ./options-markdown.nix { inherit lib; } evaluated.options;
in
pkgs.runCommand "options-are-documented"
  {
    inherit markdown;
    passAsFile = [ "markdown" ];
  }
  ''
    diff -u ${../docs/options.md} "$markdownPath" || {
      echo "docs/options.md is not current: checks/options-write makes it anew" >&2
      exit 1
    }
    touch "$out"
  ''
