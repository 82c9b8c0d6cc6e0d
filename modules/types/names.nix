# Names of branches, packages and servers.
{ lib }:
let
  inherit (import ../../lib/policy) grammar;
  inherit (import ./checked.nix { inherit lib; })
    checked
    checkedString
    firstOf
    shown
    ;
  inherit (builtins) match;
in
{
  /**
    Name of a git branch (git-check-ref-format(1)).
  */
  branch = checkedString {
    description = "name of a git branch";
    example = ''"main"'';
    wrong =
      value:
      let
        parts = lib.splitString "/" value;
        short = lib.removePrefix "refs/heads/" value;
        better = lib.replaceStrings [ " " ] [ "-" ] value;
        isPart = part: part != "" && !lib.hasPrefix "." part && !lib.hasSuffix ".lock" part;
        isName =
          match "[^-[:cntrl:] ~^:?*\\[][^[:cntrl:] ~^:?*\\[]*" value != null
          && !lib.hasInfix "\\" value
          && !lib.hasInfix ".." value
          && !lib.hasInfix "@{" value
          && !lib.hasSuffix "." value
          && lib.all isPart parts
          && value != "@"
          && value != "HEAD"
          && lib.stringLength value <= 200;
      in
      firstOf [
        {
          broken = lib.hasPrefix "refs/" value;
          why = "the full name of a ref, but the short name of the branch is needed";
          write = if short != value && short != "" then shown short else ''"main"'';
        }
        {
          broken = !isName;
          why = "which is not a valid name of a git branch";
          write =
            if lib.hasInfix " " value && match "[A-Za-z0-9 /_-]+" value != null then
              shown better
            else
              ''"main"'';
        }
      ];
  };

  /**
    Attribute path of a package in nixpkgs.
  */
  packageName = checked {
    description = "name of a package in nixpkgs";
    wrong =
      value:
      let
        bare = lib.removePrefix "nixpkgs#" (lib.removePrefix "pkgs." value);
        isName = match grammar.nixpkgs_package;
      in
      if lib.isDerivation value then
        {
          why = "a package of this host, but its name is needed, because the machine has its own nixpkgs";
          write = shown (lib.getName value);
        }
      else if !builtins.isString value then
        {
          why = "which is not the name of a package";
          write = ''"nodejs"'';
        }
      else
        firstOf [
          {
            broken = isName bare != null && bare != value;
            why = "but names are written without the prefix pkgs. or nixpkgs#";
            write = shown bare;
          }
          {
            broken = isName value == null && match "[A-Za-z0-9_+. -]+" value != null;
            why = "which is not the name of a single package";
            write = lib.concatMapStringsSep " " shown (
              lib.filter (word: isName word != null) (lib.splitString " " value)
            );
          }
          {
            broken = isName value == null;
            why = "which is not the name of a package";
            write = ''"nodejs"'';
          }
        ];
  };

  /**
    One of the strings in `known`. `what`: a plural noun for them.
  */
  oneOf =
    { what, known }:
    checkedString {
      description = "one of ${lib.concatMapStringsSep ", " shown known}";
      example = shown (lib.head known);
      wrong =
        value:
        let
          near = lib.filter (name: lib.strings.levenshteinAtMost 2 name value) known;
        in
        if lib.elem value known then
          null
        else
          {
            why = "which is not one of ${what}: ${lib.concatStringsSep ", " known}";
            write = shown (if near == [ ] then lib.head known else lib.head near);
          };
    };

  /**
    One command-line argument of Nix.
  */
  nixArgument = checkedString {
    description = "argument for Nix";
    example = ''"--offline"'';
    wrong =
      value:
      if match "-.*[[:space:]].*" value != null then
        {
          why = "several arguments in one string, but each must be its own string";
          write = lib.concatMapStringsSep " " shown (
            lib.filter (word: word != "") (lib.splitString " " value)
          );
        }
      else if match ".*[[:cntrl:]].*|" value != null then
        {
          why = "which is empty or has a control character";
          write = ''"--offline"'';
        }
      else
        null;
  };
}
