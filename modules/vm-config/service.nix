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
      user = policy.user.name;
      group = policy.user.name;
      workspaceDir = policy.workspace.path;
      host = "0.0.0.0";
      port = policy.ports.mcp;
      # Without what the host hands over at boot, nobody comes in.
      gate.enable = true;
      gate.fromHost = true;
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
