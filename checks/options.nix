# docs/reference/options.md is what the modules say, and every option says something.
{ lib, runCommand }:
runCommand "options-are-documented"
  {
    markdown = import ./options-eval.nix { inherit lib; };
    passAsFile = [ "markdown" ];
  }
  ''
    if ! diff -u ${../docs/reference/options.md} "$markdownPath"; then
      echo "docs/reference/options.md is not current: checks/options-write makes it anew" >&2
      exit 1
    fi
    touch "$out"
  ''
