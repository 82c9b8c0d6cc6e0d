# as-dev COMMAND: what the agent's account can do. Without PAM, so that it is the account that is tested.
{ pkgs, ... }:
{
  environment.systemPackages = [
    (pkgs.writeShellScriptBin "as-dev" ''
      exec ${pkgs.util-linux}/bin/setpriv --reuid dev --regid "$(id -g dev)" --init-groups \
        ${pkgs.runtimeShell} -c "$1"
    '')
  ];
}
