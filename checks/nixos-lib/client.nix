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
    # mcp-call URL TOOL ARGUMENTS
    (pkgs.writeShellScriptBin "mcp-call" ''
      export SSL_CERT_FILE=${keys}/ca.pem API_ACCESS_TOKEN=$(<${keys}/token)
      exec ${pkgs.python3}/bin/python3 ${./mcp_call.py} ${pkgs.mcp-proxy}/bin/mcp-proxy "$@"
    '')
    # gateway-client URL
    (pkgs.writeShellScriptBin "gateway-client" ''
      exec ${pkgs.python3}/bin/python3 ${./gateway_client.py} "$1" ${keys}/ca.pem ${keys}/token
    '')
    # mcp-status CURL-ARGUMENT… URL prints the HTTP status of the response, or 000 if there is none. It trusts the machines'
    # certificate authority.
    (pkgs.writeShellScriptBin "mcp-status" ''
      ${pkgs.curl}/bin/curl --silent --max-time 60 --cacert ${keys}/ca.pem --output /dev/null --write-out '%{http_code}' "$@" || :
    '')
    (pkgs.writeShellScriptBin "mcp-token" "exec cat ${keys}/token")
    (pkgs.writeShellScriptBin "mcp-other-authority" "echo ${keys}/other-ca.pem")
    # agent-ssh KEY USER@HOST …
    (pkgs.writeShellScriptBin "agent-ssh" ''
      key=$1 target=$2
      shift 2
      install -m 600 ${keys}/"$key" /tmp/key
      sed "s/^/''${target#*@} /" ${keys}/host.pub >/tmp/known_hosts
      # The test driver writes its commands to this terminal, and ssh would read them.
      [[ ! -t 0 ]] || exec </dev/null
      exec ${pkgs.openssh}/bin/ssh -i /tmp/key -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=30 \
        -o UserKnownHostsFile=/tmp/known_hosts -o StrictHostKeyChecking=yes "$target" "$@"
    '')
  ];
}
