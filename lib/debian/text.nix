# Writes configuration files from the policy's attribute sets.
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    isBool
    map
    toJSON
    toString
    ;

  lines = list: concatStringsSep "\n" list + "\n";
  yesNo = value: if isBool value then (if value then "yes" else "no") else toString value;
in
{
  /**
    Returns the text of sshd_config. Without Match blocks, the order of keywords does not matter.
  */
  sshdConfig = settings: lines (map (key: "${key} ${yesNo settings.${key}}") (attrNames settings));

  /**
    Returns the text of a git configuration from `{ section.key = value; }`. git's quoted strings have JSON's syntax.
  */
  gitconfig =
    sections:
    lines (
      concatMap (
        section:
        [ "[${section}]" ]
        ++ map (key: "\t${key} = ${toJSON (toString sections.${section}.${key})}") (
          attrNames sections.${section}
        )
      ) (attrNames sections)
    );
}
