# Evaluates one mistake of mistakes.nix, or its corrected form: throws the evaluation's error, or returns "fine".
{
  nixpkgs,
  words,
  name,
  which,
}:
let
  evaluate = import ./evaluate.nix { inherit nixpkgs words; };
  inherit (evaluate) lib eval wrong;
  case = (import ./mistakes.nix evaluate).${name};
  config =
    if case.kind == "machine" then
      eval [
        ../../modules/vm-config.nix
        case.${which}
      ]
    else
      evaluate.withModules case.${which};
  messages = wrong config;
  # Evaluates what needs no packages.
  values = [
    (config.agentVm or { })
    config.services.agent-mcp
    (config.services.agent-vms or { })
  ];
  isDeep = value: !lib.isDerivation value && (builtins.isAttrs value || builtins.isList value);
  force =
    value:
    if isDeep value then
      lib.all force (if builtins.isList value then value else builtins.attrValues value)
    else
      builtins.seq value true;
in
if messages != [ ] then
  throw (lib.concatStringsSep "\n" (map (message: "Failed assertion: ${message}") messages))
else if lib.all force values then
  "fine"
else
  throw "unreachable"
