# Checks that docs/reference/options.md is up to date and that every option has a description.
{ lib, runCommand }:
runCommand "options-are-documented"
  {
    markdown = import ./options-eval.nix { inherit lib; };
    passAsFile = [ "markdown" ];
  }
  ''
    if ! diff -u ${../docs/reference/options.md} "$markdownPath"; then
      echo "error: docs/reference/options.md is out of date" >&2
      echo "hint: checks/options-write" >&2
      exit 1
    fi
    touch "$out"
  ''
