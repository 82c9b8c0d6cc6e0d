# Text of a systemd unit from the attribute sets that NixOS takes for one.
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
      throw "systemd unit: ${key} holds a line break: ${builtins.toJSON value}"
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

  # A list becomes one line an element, as NixOS does it: later lines add to the earlier ones.
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
  Renders `{ Unit = { … }; Service = { … }; Install = { … }; }`; null sections and values are left out.

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
