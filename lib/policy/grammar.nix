# What names look like: patterns by name, for the whole of a text. `<name>` in one stands for another. JSON: Rust and
# the programs in the guest read it, too; so only what POSIX, Python and Rust understand alike.
let
  patterns = builtins.fromJSON (builtins.readFile ./grammar.json);
  expand =
    text:
    builtins.concatStringsSep "" (
      map (part: if builtins.isString part then part else "(${expand patterns.${builtins.head part}})") (
        builtins.split "<([a-z0-9_]+)>" text
      )
    );
in
builtins.mapAttrs (_: expand) patterns
