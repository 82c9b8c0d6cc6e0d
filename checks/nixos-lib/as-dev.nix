# as-dev COMMAND runs a command as the agent's account, without PAM, so that only the account's rights are tested.
{ pkgs, ... }:
{
  environment.systemPackages = [
    (pkgs.writeShellScriptBin "as-dev" ''
      exec ${pkgs.util-linux}/bin/setpriv --reuid dev --regid "$(id -g dev)" --init-groups \
        ${pkgs.runtimeShell} -c "$1"
    '')
  ];
}
