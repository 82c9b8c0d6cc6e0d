# Functions and values for the tests.
let
  lib = import ../.;
  inherit (lib) debianGuest;
  inherit (builtins)
    deepSeq
    length
    split
    tryEval
    ;

  throws = "throws";
  attempt =
    value:
    let
      result = tryEval (deepSeq value value);
    in
    if result.success then result.value else throws;

  contains = part: text: length (split (escape part) text) > 1;
  escape =
    builtins.replaceStrings
      [
        "\\"
        "."
        "*"
        "+"
        "?"
        "("
        ")"
        "["
        "]"
        "{"
        "}"
        "^"
        "$"
        "|"
      ]
      [
        "\\\\"
        "\\."
        "\\*"
        "\\+"
        "\\?"
        "\\("
        "\\)"
        "\\["
        "\\]"
        "\\{"
        "\\}"
        "\\^"
        "\\$"
        "\\|"
      ];

  guest = debianGuest { };
  nineP = debianGuest { share = "9p"; };
  spec = guest.image.spec;
  text = path: spec.files.${path}.text;
  hashOf = arguments: (debianGuest arguments).image.hash;
  packagesOf = packages: (debianGuest { inherit packages; }).image.spec.packages;
in
{
  inherit (lib) debianGuest policy systemdUnit;
  inherit
    throws
    attempt
    contains
    guest
    nineP
    spec
    text
    hashOf
    packagesOf
    ;
}
