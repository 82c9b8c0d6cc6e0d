# Unit tests of the library; failures as JSON:
#   nix-instantiate --eval --strict --json lib/tests.nix -A failures
# An empty object means success. A test is `{ expr; expected; }`, where `throws` means that the evaluation must fail.
let
  inherit (builtins)
    attrNames
    length
    listToAttrs
    ;
  helpers = import ./tests/helpers.nix;
  inherit (helpers) attempt;

  parts = map (file: import (./tests + "/${file}") helpers) (
    builtins.filter (file: file != "helpers.nix" && builtins.match ".*[.]nix" file != null) (
      attrNames (builtins.readDir ./tests)
    )
  );
  tests = builtins.foldl' (all: part: all // part) { } parts;
in
{
  inherit tests;
  count = length (attrNames tests);
  failures = listToAttrs (
    builtins.concatMap (
      name:
      let
        got = attempt tests.${name}.expr;
        inherit (tests.${name}) expected;
      in
      if got == expected then
        [ ]
      else
        [
          {
            inherit name;
            value = { inherit got expected; };
          }
        ]
    ) (attrNames tests)
  );
}
