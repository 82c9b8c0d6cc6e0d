# Writes configuration files from the policy's attribute sets.
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    isAttrs
    isBool
    map
    partition
    toJSON
    toString
    ;

  lines = list: concatStringsSep "\n" list + "\n";
  word = value: if isBool value then (if value then "true" else "false") else toString value;
  yesNo = value: if isBool value then (if value then "yes" else "no") else toString value;
in
{
  /**
    Returns the text of sshd_config. Without Match blocks, the order of keywords does not matter.
  */
  sshdConfig = settings: lines (map (key: "${key} ${yesNo settings.${key}}") (attrNames settings));

  /**
    Returns the text of a git configuration from `{ section.key = value; }` or `{ section.subsection.key = value; }`. git's
    quoted strings have JSON's syntax.
  */
  gitconfig =
    sections:
    let
      section =
        header: values:
        let
          isSubsection = key: isAttrs values.${key};
          keys = partition isSubsection (attrNames values);
        in
        (if keys.wrong == [ ] then [ ] else [ "[${header}]" ])
        ++ map (key: "\t${key} = ${toJSON (word values.${key})}") keys.wrong
        ++ concatMap (key: section "${header} ${toJSON key}" values.${key}) keys.right;
    in
    lines (concatMap (name: section name sections.${name}) (attrNames sections));
}
