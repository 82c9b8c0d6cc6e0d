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
    sshd_config; the order of keywords has no meaning there without Match blocks.
  */
  sshdConfig = settings: lines (map (key: "${key} ${yesNo settings.${key}}") (attrNames settings));

  /**
    git's configuration from `{ section.key = value; }`; git reads quoted strings as JSON writes these.
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
