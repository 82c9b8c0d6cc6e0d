# Option types whose errors state what is wrong and what to write. Errors of nixpkgs' types often show only a pattern.
{ lib }:
let
  inherit (builtins) isString typeOf;

  shown = lib.generators.toPretty { multiline = false; };
  kindOf =
    value:
    if lib.isDerivation value then
      "a package"
    else
      {
        bool = "true or false";
        float = "a number";
        int = "a number";
        lambda = "a function";
        list = "a list";
        null = "null";
        path = "a path";
        set = "an attribute set";
        string = "a string";
      }
      .${typeOf value};
  isEntry = part: lib.hasPrefix "[definition " part;
in
rec {
  /**
    Returns a value as Nix code on one line.
  */
  inherit shown;

  /**
    Returns the kind of a value with an article, such as "a list".
  */
  inherit kindOf;

  /**
    Option type that accepts the values for which `wrong` returns null.

    `description`: noun for the option's documentation. `wrong`: function that returns null for a valid value and otherwise
    `{ why; write; }`: the end of the sentence `OPTION is VALUE, …`, and a valid value as Nix code.

    Type: { description; wrong; } → option type

    Example: checked { description = "even number"; wrong = n: if lib.mod n 2 == 0 then null else { why = "which is odd"; write = "2"; }; }
  */
  checked =
    { description, wrong }:
    lib.mkOptionType {
      name = "checked";
      inherit description;
      descriptionClass = "noun";
      merge =
        loc: defs:
        let
          value = lib.mergeEqualOption loc defs;
          problem = wrong value;
          option = lib.showOption (lib.filter (part: !isEntry part) loc);
          inList = lib.any isEntry loc;
        in
        if problem == null then
          value
        else
          throw ''
            ${option} ${if inList then "has" else "is"} ${shown value}, ${problem.why}. Write for example
              ${option} = ${if inList then "[ ${problem.write} ]" else problem.write};
            It is defined in ${lib.concatMapStringsSep ", " (def: toString def.file) defs}.'';
    }
    // {
      inherit wrong;
    };

  /**
    Like `checked`, for strings: other values are invalid.

    `example`: a valid string as Nix code.
  */
  checkedString =
    {
      description,
      example,
      wrong,
    }:
    checked {
      inherit description;
      wrong =
        value:
        if isString value then
          wrong value
        else if typeOf value == "path" then
          {
            why = "a path that Nix copies into its store, but a string is needed";
            write = shown (toString value);
          }
        else
          {
            why = "${kindOf value} where a string is needed: ${description}";
            write = example;
          };
    };

  /**
    Option type of submodules by name, with an error that shows what to write instead. nixpkgs' own type would import a string
    or a path as a module.

    `module`: module of each submodule. `example`: example of a name. `option`: name of the option whose value users often
    write instead of the whole submodule.

    Type: { module; example; option; } → option type
  */
  namedModules =
    {
      module,
      example,
      option,
    }:
    let
      # A package is an attribute set but not options; a function is a module.
      isOptions = value: lib.isAttrs value && !lib.isDerivation value;
      refusing =
        {
          type,
          isRight,
          write,
        }:
        type
        // {
          check = _: true;
          # The module system rebuilds each submodule type from its parts.
          substSubModules =
            modules:
            refusing {
              type = type.substSubModules modules;
              inherit isRight write;
            };
          merge =
            loc: defs:
            let
              wrong = lib.findFirst (def: !isRight def.value) null defs;
              path = lib.showOption loc;
            in
            if wrong == null then
              type.merge loc defs
            else
              throw ''
                ${path} is ${shown wrong.value}, ${kindOf wrong.value} where a set of options is needed. Write for example
                  ${path}.${write wrong.value};
                It is defined in ${toString wrong.file}.'';
        };
      one = refusing {
        type = lib.types.submodule module;
        isRight = value: isOptions value || (lib.isFunction value && !lib.isDerivation value);
        write = value: "${option} = ${if isString value then shown value else "\"…\""}";
      };
    in
    refusing {
      type = lib.types.attrsOf one;
      isRight = isOptions;
      write = _: "${example} = { ${option} = \"…\"; }";
    };

  /**
    Returns the first of `rules` whose `broken` is true, as a result of `wrong` (see `checked`), or null. Each rule is
    `{ broken; why; write; }`.
  */
  firstOf = rules: lib.findFirst (rule: rule.broken) null rules;
}
