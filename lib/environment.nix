/**
  Converts strings "NAME=value", as in the policy, to an attribute set, as in NixOS options.

  Type: [string] → attrset

  Example: [ "A=b=c" ] → { A = "b=c"; }
*/
list:
builtins.listToAttrs (
  map (
    text:
    let
      parts = builtins.match "([^=]*)=(.*)" text;
    in
    {
      name = builtins.elemAt parts 0;
      value = builtins.elemAt parts 1;
    }
  ) list
)
