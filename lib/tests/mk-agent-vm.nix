# Arguments of mkAgentVm, with a fake nixosSystem that counts the modules.
{ throws, ... }:
let
  guest =
    modules:
    import ../mk-agent-vm.nix
      { nixosSystem = { modules }: { config.system.build.agentVm = builtins.length modules; }; }
      {
        inherit modules;
        system = "x86_64-linux";
      };
in
{
  testModulesAreAList = {
    expr = guest [ { } ] - guest [ ];
    expected = 1;
  };
  testOneModuleIsRefused = {
    expr = guest { agentVm.cores = 2; };
    expected = throws;
  };
}
