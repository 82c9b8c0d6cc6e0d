# Options for the sizes of a machine, whose defaults, ranges and descriptions agent-vm reads too.
{ lib }:
let
  inherit (import ./numbers.nix { inherit lib; }) mebibytes numberFrom;
  defaults = lib.importJSON ../../lib/policy/defaults.json;
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
}
