# Returns options as Markdown. Throws an error for an option without a description.
{ lib }:
options:
let
  text = value: if value ? _type then value.text else lib.generators.toPretty { } value;
  # Remove the roles of nixpkgs' manual.
  plain = lib.replaceStrings [ "{command}" "{file}" "{manpage}" "{option}" ] [ "" "" "" "" ];
  block = value: "```nix\n${text value}\n```\n";
  entry =
    option:
    let
      name = lib.showOption option.loc;
    in
    ''
      ### `${name}`

      ${lib.removeSuffix "\n" (
        if option ? description then
          plain (option.description.text or option.description)
        else
          throw "the option ${name} has no description"
      )}

      *Type:* ${option.type.description}
    ''
    + lib.optionalString (option ? default || option ? defaultText) ''

      *Default:*${
        let
          default = option.defaultText or option.default;
        in
        if default._type or "" == "literalMD" then " ${default.text}\n" else "\n\n" + block default
      }''
    + lib.optionalString (option ? example) "\n*Example:*\n\n${block option.example}";

  # A removed option is not visible.
  visible = lib.filter (
    option:
    !(option.internal or false) && option.visible or true != false && lib.head option.loc != "_module"
  ) (lib.collect lib.isOption options);
  # An option and the options of its submodules, with a placeholder for the submodule's name.
  nested =
    option:
    let
      inner = option.type.getSubOptions option.loc;
    in
    [ option ]
    ++ lib.optionals (inner != { }) (
      lib.concatMap nested (
        lib.filter (
          sub:
          !(sub.internal or false)
          && lib.head (lib.drop (lib.length option.loc) sub.loc ++ [ "_module" ]) != "_module"
          && !(lib.elem "_module" sub.loc)
        ) (lib.collect lib.isOption inner)
      )
    );
in
''
  # Options

  `checks/options-write` generates this page from the modules. A check fails if it is out of date.

''
+ lib.concatMapStringsSep "\n" entry (lib.concatMap nested visible)
