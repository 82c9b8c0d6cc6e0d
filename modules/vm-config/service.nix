# The agent service as the machine has it: for its user, and on the address that the host's forwards reach.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
in
{
  config = {
    services.agent-mcp = {
      enable = lib.mkDefault true;
    };
    environment.systemPackages = map (name: pkgs.${name}) policy.tools.nixos ++ config.agentVm.packages;
    programs.git = {
      enable = true;
      config = policy.git;
    };
    programs.bash.interactiveShellInit = ''
      [ "$PWD" != "$HOME" ] || cd ${policy.workspace.path} 2>/dev/null || :
    '';
  };
}
