# Programs besides the agent service, and git with the policy's settings.
{
  config,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
in
{
  config = {
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
