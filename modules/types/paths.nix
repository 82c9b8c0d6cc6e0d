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
    Absolute path without `.` and `..`.

    `characters`: forbidden characters, as the inside of a bracket expression. `more`: function from the value to additional
    rules for `firstOf`.
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
              why = "which is not an absolute path";
              write = if value == "" then example else shown (absolute value);
            }
            {
              broken = match "[^${characters}]*" value == null;
              why = "which has a character that is not allowed";
              write = example;
            }
            {
              broken = lib.any (part: part == "." || part == "..") (lib.splitString "/" value);
              why = "but . and .. are not allowed";
              write = example;
            }
          ]
          ++ more value
        );
    };

  /**
    File with a secret: an absolute path outside of the world-readable store.
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
            why = "which is in the world-readable Nix store";
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
            why = "a path that Nix copies into its world-readable store, but a string is needed";
            write = example;
          }
        else if isString value && !lib.hasPrefix "/" value then
          {
            why = "which is not an absolute path; a secret must not be in the configuration, which is world-readable";
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
          why = "but the name of an account has at most 31 lower-case letters, digits, _ and -";
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
    Program without arguments: an absolute path, or a name that is looked up in PATH.
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
          why = "which is empty";
          write = "lib.getExe pkgs.mcp-server-git";
        }
        {
          broken = match ".*[|&;<>$`\n].*" value != null;
          why = "a shell command, but a program is needed";
          write = ''lib.getExe (pkgs.writeShellScriptBin "server" ${shown value})'';
        }
        {
          broken = match ".*[[:space:]].*" value != null;
          why = "a program with arguments, but arguments are a separate list";
          write = "${shown (lib.head words)}; args = ${shown (lib.tail words)}";
        }
        {
          broken = match ".*/" value != null;
          why = "a directory, but a program is needed";
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
    Package, or a directory that contains `bin`.
  */
  programsOf = checked {
    description = "package, or directory that contains bin";
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
            why = "but the directory that contains bin is needed";
            write = shown (lib.removeSuffix "/bin" (lib.removeSuffix "/" value));
          }
          {
            broken = lib.hasInfix ":" value;
            why = "several directories in one string";
            write = lib.concatMapStringsSep " " shown (lib.splitString ":" value);
          }
        ];
  };

  /**
    Package. `example`: a package as Nix code.
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
            why = "which is not a package";
            write =
              if isString value && match "[A-Za-z_][A-Za-z0-9_-]*([.][A-Za-z_][A-Za-z0-9_-]*)*" value != null then
                "pkgs.${value}"
              else
                example;
          };
    };
}
