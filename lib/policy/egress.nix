# The guest's side of egress: a port on its loopback, which an ssh reverse tunnel connects to the host's egress proxy.
let
  credentials = import ./credentials.nix;
  directory = "agent-vm-egress";
  # Certificate authorities that the guest trusts: the system's, and the one of the egress proxy.
  authorities = "/run/${directory}/ca-certificates.crt";
  url = "http://127.0.0.1:${toString port}";
  port = (import ./ports.nix).egress;
in
rec {
  inherit port;
  unit = "${directory}.service";

  # Groups of hosts. Settings name a group as @GROUP. In JSON, because agent-vm reads them too, before a guest is built.
  groups = builtins.fromJSON (builtins.readFile ./egress-groups.json);

  # Egress modes: `name`; `goesByList`, whether the allow list applies; `reaches`, a description for help texts. In JSON
  # for the same reason.
  modes = builtins.fromJSON (builtins.readFile ./egress-modes.json);

  # Environment variables of all sessions and services. Programs differ in the proxy and certificate variables they read.
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
    # Without it, Node ignores the proxy variables.
    ++ [ "NODE_USE_ENV_PROXY=1" ]
    # Yarn 2 and later read no other variables.
    ++ map (name: "${name}=${url}") [
      "YARN_HTTP_PROXY"
      "YARN_HTTPS_PROXY"
    ]
    ++ map (name: "${name}=${authorities}") [
      "AWS_CA_BUNDLE"
      "BUNDLE_SSL_CA_CERT"
      "CARGO_HTTP_CAINFO"
      "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE"
      "CURL_CA_BUNDLE"
      "DENO_CERT"
      "GIT_SSL_CAINFO"
      "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
      "HTTPLIB2_CA_CERTS"
      "NIX_SSL_CERT_FILE"
      "NODE_EXTRA_CA_CERTS"
      "PIP_CERT"
      "REQUESTS_CA_BUNDLE"
      "SSL_CERT_FILE"
    ];

  # Variables with placeholders for secrets; the host sets them at boot.
  environmentFile = "/run/${directory}/environment";
  # All variables as one SetEnv line for sshd, which ignores further SetEnv lines.
  sshdConfig = "/run/${directory}/sshd.conf";

  # The system's certificate authorities, on both guests.
  bundle = "/etc/ssl/certs/ca-certificates.crt";

  unitSection = {
    Description = "Certificate authorities and environment variables for egress";
  };

  /**
    Script of the unit, without its #! line. It needs `cat` and `mount` on PATH.

    `sessionEnvironment`: more variables for ssh sessions.
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
      # For programs that read none of these variables.
      mount --bind ${authorities} ${bundle}
    '';

  /**
    The [Service] section of the unit. `exec`: path of the script above.
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
