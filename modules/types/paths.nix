# Paths, accounts and programs.
{ lib }:
let
  inherit (import ./checked.nix { inherit lib; })
    checked
    checkedString
    firstOf
    shown
    ;
  inherit (builtins) isString match;

  isInStore = value: lib.hasPrefix "${builtins.storeDir}/" value || value == builtins.storeDir;
  # Unlike a shell, Nix does not expand ~.
  withoutTilde =
    value: if match "~(/.*)?" value != null then "/home/USER" + lib.removePrefix "~" value else value;
  absolute =
    value:
    let
      full = withoutTilde value;
    in
    if lib.hasPrefix "/" full then full else "/srv/" + lib.removePrefix "./" full;
  url = "[A-Za-z][A-Za-z0-9+.-]*://.*|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:.*";
in
rec {
  inherit isInStore;

  /**
    Absolute path without `characters` (a bracket expression's inside, of what the place that it is written to gives a meaning) and
    without `.` and `..`.

    `more`: rules besides, as `firstOf` has them, of the value.
  */
  absolutePath =
    {
      description,
      example,
      characters,
      more ? _: [ ],
    }:
    checkedString {
      inherit description example;
      wrong =
        value:
        firstOf (
          [
            {
              broken = match url value != null;
              why = "a URL where a path of this host is needed";
              write = example;
            }
            {
              broken = !lib.hasPrefix "/" value;
              why = "which is no absolute path";
              write = if value == "" then example else shown (absolute value);
            }
            {
              broken = match "[^${characters}]*" value == null;
              why = "which has a character that cannot stand there";
              write = example;
            }
            {
              broken = lib.any (part: part == "." || part == "..") (lib.splitString "/" value);
              why = "which leads through . or ..";
              write = example;
            }
          ]
          ++ more value
        );
    };

  /**
    File with a secret: an absolute path that is not in the store, which everybody reads.
  */
  secretFile =
    example:
    let
      type = absolutePath {
        description = "absolute path of a file outside of the Nix store";
        inherit example;
        characters = "%:\"\\[:cntrl:][:space:]";
        more = value: [
          {
            broken = isInStore value;
            why = "which is in the Nix store, where everybody reads it";
            write = example;
          }
        ];
      };
    in
    checked {
      inherit (type) description;
      wrong =
        value:
        if builtins.typeOf value == "path" then
          {
            why = "a path that Nix copies into its store, where everybody reads it; a text is needed";
            write = example;
          }
        else if isString value && !lib.hasPrefix "/" value then
          {
            why = "which is no absolute path; what a configuration holds itself, everybody reads";
            write = example;
          }
        else
          type.wrong value;
    };

  /**
    Name of an account or a group, of at most 31 characters (useradd(8)).
  */
  accountName = checkedString {
    description = "name of an account or a group";
    example = ''"agent"'';
    wrong =
      value:
      if match "[a-z_][a-z0-9_-]{0,30}" value != null then
        null
      else
        {
          why = "which is no name of an account: lower-case letters, digits, _ and -, 31 at most";
          write =
            let
              better = lib.substring 0 31 (
                lib.concatStrings (
                  lib.filter (character: match "[a-z0-9_-]" character != null) (
                    lib.stringToCharacters (lib.toLower value)
                  )
                )
              );
            in
            if match "[a-z_].*" better == null then ''"agent"'' else shown better;
        };
  };

  /**
    Program without arguments: an absolute path, or a name that is looked up.
  */
  program = checkedString {
    description = "path or name of a program";
    example = "lib.getExe pkgs.mcp-server-git";
    wrong =
      value:
      let
        words = lib.filter (word: word != "") (lib.splitString " " value);
      in
      firstOf [
        {
          broken = match "[[:space:]]*" value != null;
          why = "which names no program";
          write = "lib.getExe pkgs.mcp-server-git";
        }
        {
          broken = match ".*[|&;<>$`\n].*" value != null;
          why = "a line for a shell, where a program is needed";
          write = ''lib.getExe (pkgs.writeShellScriptBin "server" ${shown value})'';
        }
        {
          broken = match ".*[[:space:]].*" value != null;
          why = "a program with arguments, which are a list of their own";
          write = "${shown (lib.head words)}; args = ${shown (lib.tail words)}";
        }
        {
          broken = match ".*/" value != null;
          why = "which is a directory";
          write = "lib.getExe pkgs.mcp-server-git";
        }
        {
          broken = match ".*[[:cntrl:]].*" value != null;
          why = "which has a control character";
          write = "lib.getExe pkgs.mcp-server-git";
        }
      ];
  };

  /**
    Where programs are looked up: a package, or the directory above a `bin`.
  */
  programsOf = checked {
    description = "package, or directory with a bin";
    wrong =
      value:
      if lib.isDerivation value then
        null
      else
        firstOf [
          {
            broken = !isString value || !lib.hasPrefix "/" value;
            why = "which is neither a package nor an absolute path";
            write =
              if isString value && match "[A-Za-z_][A-Za-z0-9_-]*" value != null then
                "pkgs.${value}"
              else
                "pkgs.git";
          }
          {
            broken = match ".*/bin/?" value != null;
            why = "but the directory above bin is needed";
            write = shown (lib.removeSuffix "/bin" (lib.removeSuffix "/" value));
          }
          {
            broken = lib.hasInfix ":" value;
            why = "which are several directories";
            write = lib.concatMapStringsSep " " shown (lib.splitString ":" value);
          }
        ];
  };

  /**
    Package, with what to write where a name or a text stands.
  */
  package =
    example:
    checked {
      description = "package";
      wrong =
        value:
        if lib.isDerivation value then
          null
        else
          {
            why = "which is no package";
            write =
              if isString value && match "[A-Za-z_][A-Za-z0-9_-]*([.][A-Za-z_][A-Za-z0-9_-]*)*" value != null then
                "pkgs.${value}"
              else
                example;
          };
    };
}
