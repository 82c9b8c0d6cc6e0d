# A machine that talks to agent machines over the network.
{ pkgs, ... }:
let
  keys = import ./keys.nix { inherit pkgs; };
in
{
  virtualisation.memorySize = 1024;
  environment.systemPackages = [
    pkgs.curl
    pkgs.netcat-openbsd
    (pkgs.writeShellScriptBin "mcp-call" ''
      exec ${pkgs.python3}/bin/python3 ${./mcp_call.py} ${pkgs.mcp-proxy}/bin/mcp-proxy "$@"
    '')
    # agent-ssh KEY USER@HOST …
    (pkgs.writeShellScriptBin "agent-ssh" ''
      key=$1 target=$2
      shift 2
      install -m 600 ${keys}/"$key" /tmp/key
      sed "s/^/''${target#*@} /" ${keys}/host.pub >/tmp/known_hosts
      exec ${pkgs.openssh}/bin/ssh -i /tmp/key -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=30 \
        -o UserKnownHostsFile=/tmp/known_hosts -o StrictHostKeyChecking=yes "$target" "$@"
    '')
  ];
}
