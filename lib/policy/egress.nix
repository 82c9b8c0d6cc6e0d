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
  inherit authorities port;
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
    # Maven 3.9 and later.
    ++ [ "MAVEN_ARGS=--global-settings=${mavenSettings}" ]
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

  # Java's own trust store, and Maven's settings: neither reads variables.
  trustStore = "/run/${directory}/java.jks";
  mavenSettings = "/run/${directory}/maven-settings.xml";
  # Java's settings have spaces, so they are in the file below and not in the list above.
  settings = builtins.concatStringsSep " " [
    "-Dhttp.proxyHost=127.0.0.1"
    "-Dhttp.proxyPort=${toString port}"
    "-Dhttps.proxyHost=127.0.0.1"
    "-Dhttps.proxyPort=${toString port}"
    "-Dhttp.nonProxyHosts=localhost|127.0.0.1|[::1]"
  ];
  # For Python: BUNDLE OUT.
  trustStoreScript = builtins.readFile ./java-trust-store.py;

  # Variables with placeholders for secrets, and Java's; written at boot.
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

    `sessionEnvironment`: more variables for ssh sessions. `java`: path of a Java, which may be missing; `makeTrustStore`: the
    command that runs the script above.
  */
  script =
    {
      sessionEnvironment ? [ ],
      java,
      makeTrustStore,
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
      set -- ${bundle}
      if [ -e "$CREDENTIALS_DIRECTORY/${credentials.egressAuthority}" ]; then
        set -- "$@" "$CREDENTIALS_DIRECTORY/${credentials.egressAuthority}"
      fi
      cat "$@" >${authorities}
      # For programs that read none of these variables.
      mount --bind ${authorities} ${bundle}

      java='${settings}'
      # Only with the host's authority: otherwise Java's own trust store has all.
      if [ $# -gt 1 ] && [ -e ${java} ]; then
        ${makeTrustStore} ${authorities} ${trustStore} && java="$java -Djavax.net.ssl.trustStore=${trustStore}"
      fi
      printf 'JAVA_TOOL_OPTIONS=%s\n' "$java" >>${environmentFile}
      cat >${mavenSettings} <<END
      <settings><proxies>
        <proxy><id>http</id><protocol>http</protocol><host>127.0.0.1</host><port>${toString port}</port><nonProxyHosts>localhost|127.0.0.1</nonProxyHosts></proxy>
        <proxy><id>https</id><protocol>https</protocol><host>127.0.0.1</host><port>${toString port}</port><nonProxyHosts>localhost|127.0.0.1</nonProxyHosts></proxy>
      </proxies></settings>
      END
      printf 'SetEnv ${
        builtins.concatStringsSep " " (sessionEnvironment ++ environment)
      }%s "JAVA_TOOL_OPTIONS=%s"\n' "$session" "$java" >${sshdConfig}
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
