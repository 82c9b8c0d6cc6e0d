# Options for the sizes of a machine, whose defaults, ranges and descriptions agent-vm reads too.
{ lib }:
let
  inherit (import ./numbers.nix { inherit lib; }) mebibytes numberFrom;
  defaults = lib.importJSON ../../lib/policy/defaults.json;
  limits = lib.importJSON ../../lib/policy/limits.json;
  option =
    setting: type: describe:
    lib.mkOption {
      type = type (defaults.bounds.${setting} // { example = defaults.${setting}; });
      default = defaults.${setting};
      description = describe defaults.help.${setting};
    };
in
{
  /**
    Options for the memory, the processors and the disk. Each takes a function from the description that `agent-vm create --help`
    prints, without a full stop, to the option's description.
  */
  sizeOptions = {
    memory = option "memoryMiB" mebibytes;
    cores = option "cores" (range: numberFrom (range // { unit = "processors"; }));
    disk = option "diskMiB" mebibytes;
  };

  /**
    Option for a limit of lib/policy/limits.json; null, its default, leaves the limit to agent-vm. A default that the declaration
    had as a value would count as asked for. `example`: a value that the user may want.
  */
  limitOption =
    name: example:
    let
      limit = limits.${name};
      range = {
        inherit (limit) least most;
      }
      // {
        inherit example;
      };
      type =
        if limit.unit == "MiB" then mebibytes range else numberFrom (range // { inherit (limit) unit; });
    in
    lib.mkOption {
      type = lib.types.nullOr type;
      default = null;
      inherit example;
      description = "${limit.help}; null for ${
        if limit.default == null then "no limit" else "the default of ${toString limit.default}"
      }.";
    };
}
