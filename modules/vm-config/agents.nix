# Coding agents.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
  chosen = map (name: policy.agents.${name}.nixos) config.agentVm.agents;
  unfree = map (agent: agent.package) (builtins.filter (agent: agent.unfree) chosen);
in
{
  config = {
    environment.systemPackages = map (agent: pkgs.${agent.package}) chosen;
    # Naming the agent is the consent. A configuration that passes its own packages decides there.
    nixpkgs.config = lib.mkIf (unfree != [ ] && !options.nixpkgs.pkgs.isDefined) {
      allowUnfreePredicate = package: builtins.elem (lib.getName package) unfree;
    };
  };
}
