# The guest's way out: a port on its loopback, which the host connects with a proxy of its own.
let
  credentials = import ./credentials.nix;
  directory = "agent-vm-egress";
  # The authorities that a guest trusts: the system's and the host's, which signs for the proxy.
  authorities = "/run/${directory}/ca-certificates.crt";
  url = "http://127.0.0.1:${toString port}";
  port = 3128;
in
rec {
  inherit port;
  unit = "${directory}.service";

  # Hosts that settings may name as one, with @ before it. JSON, as agent-vm reads it too before a guest is built.
  groups = builtins.fromJSON (builtins.readFile ./egress-groups.json);

  # What settings may let a machine reach: `name`, whether it `goesByList`, and what it `reaches`, for people. JSON, too.
  modes = builtins.fromJSON (builtins.readFile ./egress-modes.json);

  # Of every session and every server. Programs disagree about the case of a name and about whose authorities they trust.
  environment =
    map (name: "${name}=${url}") [
      "http_proxy"
      "https_proxy"
      "HTTP_PROXY"
      "HTTPS_PROXY"
    ]
    ++ map (name: "${name}=localhost,127.0.0.1,::1") [
      "no_proxy"
      "NO_PROXY"
    ]
    # Node heeds the variables above only if it is told to.
    ++ [ "NODE_USE_ENV_PROXY=1" ]
    ++ map (name: "${name}=${authorities}") [
      "CARGO_HTTP_CAINFO"
      "CURL_CA_BUNDLE"
      "GIT_SSL_CAINFO"
      "NIX_SSL_CERT_FILE"
      "NODE_EXTRA_CA_CERTS"
      "PIP_CERT"
      "REQUESTS_CA_BUNDLE"
      "SSL_CERT_FILE"
    ];

  # Placeholders of secrets, which the host knows and this does not.
  environmentFile = "/run/${directory}/environment";
  # Both, as sshd takes them. It heeds the first SetEnv alone.
  sshdConfig = "/run/${directory}/sshd.conf";

  # The system's authorities, on both guests.
  bundle = "/etc/ssl/certs/ca-certificates.crt";

  unitSection = {
    Description = "Authorities and variables of the way out";
  };

  /**
    Script of the unit, without its first line. It needs `cat` and `mount` on PATH.

    `sessionEnvironment`: variables of sessions beside those above.
  */
  script =
    {
      sessionEnvironment ? [ ],
    }:
    ''
      set -eu
      session=
      : >${environmentFile}
      if [ -e "$CREDENTIALS_DIRECTORY/${credentials.egressEnvironment}" ]; then
        while IFS= read -r line; do
          case $line in
            [A-Za-z_]*=*)
              printf '%s\n' "$line" >>${environmentFile}
              session="$session $line"
              ;;
          esac
        done <"$CREDENTIALS_DIRECTORY/${credentials.egressEnvironment}"
      fi
      printf 'SetEnv ${
        builtins.concatStringsSep " " (sessionEnvironment ++ environment)
      }%s\n' "$session" >${sshdConfig}
      set -- ${bundle}
      if [ -e "$CREDENTIALS_DIRECTORY/${credentials.egressAuthority}" ]; then
        set -- "$@" "$CREDENTIALS_DIRECTORY/${credentials.egressAuthority}"
      fi
      cat "$@" >${authorities}
      # For programs that look at no variable.
      mount --bind ${authorities} ${bundle}
    '';

  /**
    Service settings of the unit; `exec`: the script above.
  */
  service =
    { exec }:
    {
      Type = "oneshot";
      RemainAfterExit = true;
      ImportCredential = [
        credentials.egressAuthority
        credentials.egressEnvironment
      ];
      RuntimeDirectory = directory;
      RuntimeDirectoryMode = "0755";
      UMask = "0022";
      ExecStart = exec;
    };
}
