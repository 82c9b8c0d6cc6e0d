# Regular expressions by name; each must match a whole string. `<name>` in a pattern refers to another pattern. Rust and
# the guest's Python read the same JSON, so patterns use only syntax that POSIX, Python and Rust share.
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
