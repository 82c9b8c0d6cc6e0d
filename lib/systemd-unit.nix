# Converts attribute sets, as in NixOS's unit options, to the text of a systemd unit.
let
  inherit (builtins)
    attrNames
    concatStringsSep
    isBool
    isList
    isString
    match
    throw
    toString
    typeOf
    ;

  scalar =
    key: value:
    if isBool value then
      (if value then "true" else "false")
    else if isString value && match "[^\n\r]*" value == null then
      throw "systemd unit: ${key} contains a line break: ${builtins.toJSON value}"
    else if
      builtins.elem (typeOf value) [
        "string"
        "int"
        "path"
      ]
    then
      toString value
    else
      throw "systemd unit: ${key} is a ${typeOf value}; a string, integer, boolean or a list of these is needed";

  # As in NixOS, each element of a list becomes a line. Later lines add to earlier ones.
  lines =
    key: value:
    if isList value then map (v: "${key}=${scalar key v}") value else [ "${key}=${scalar key value}" ];

  section =
    name: values:
    concatStringsSep "\n" (
      [ "[${name}]" ] ++ builtins.concatMap (key: lines key values.${key}) (attrNames values)
    );
in
/**
  Returns the text of the unit `{ Unit = { … }; Service = { … }; Install = { … }; }`, without null sections and values.

  Type: attrset of attrset of scalar or list → string
*/
sections:
let
  withoutNulls = set: removeAttrs set (builtins.filter (key: set.${key} == null) (attrNames set));
  order = builtins.filter (name: sections ? ${name}) [
    "Unit"
    "Service"
    "Socket"
    "Mount"
    "Path"
    "Timer"
    "Install"
    "Journal"
    "Manager"
  ];
  unknown = builtins.filter (name: !(builtins.elem name order)) (attrNames sections);
in
if unknown != [ ] then
  throw "systemd unit: unknown section ${builtins.head unknown}"
else
  concatStringsSep "\n\n" (map (name: section name (withoutNulls sections.${name})) order) + "\n"
