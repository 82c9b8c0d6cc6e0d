# agent-mcp-gate.service: nginx as a reverse proxy for the MCP gateway. It terminates TLS and checks the token, Host, Origin,
# method and path. It has its own account, so that the agent cannot read the key and the token.
let
  ports = import ./ports.nix;
  workspace = import ./workspace.nix;
  credentials = import ./credentials.nix;
  agentMcp = import ./agent-mcp.nix;
in
rec {
  name = "agent-mcp-gate";
  unit = "${name}.service";

  account = "agent-gate";

  # A PUT to this path, with the machine's token, replaces the certificate while nginx runs. The key stays the same.
  renewalPath = "/agent-vm/certificate";

  unitSection = {
    Description = "Reverse proxy for the agent's MCP servers";
    # If the credentials are wrong, another restart does not help.
    StartLimitIntervalSec = 60;
    StartLimitBurst = 10;
  };

  hardening = import ./hardening.nix // {
    ProtectHome = true;
    # `-`: services.agent-mcp outside of an agent machine may have another workspace.
    InaccessiblePaths = [ "-${workspace.path}" ];
    MemoryDenyWriteExecute = true;
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_UNIX"
    ];
    UMask = "0077";
  };

  /**
    Command-line arguments of agent-mcp, which configures nginx, one list element each.

    `exe`: path of the program `nginx`. `listen`: address and port to listen on. `innerPort`: the gateway's port.
  */
  arguments =
    {
      exe,
      origins ? agentMcp.allowedOrigins,
      listen ? "0.0.0.0:${toString ports.mcp}",
      innerPort ? ports.mcpInner,
    }:
    [
      "reverse-proxy"
      "--nginx=${exe.nginx}"
      "--listen=${listen}"
      "--inner-port=${toString innerPort}"
      "--endpoint-credential=${credentials.mcpEndpoint}"
      "--certificate-credential=${credentials.mcpCertificate}"
      "--key-credential=${credentials.mcpKey}"
      "--token-credential=${credentials.mcpToken}"
      "--renewal-path=${renewalPath}"
    ]
    ++ map (origin: "--allow-origin=${origin}") origins;

  # Credentials that an agent machine gets from its host. Without a host, the service loads them from files.
  imported = [
    credentials.mcpEndpoint
    credentials.mcpCertificate
    credentials.mcpKey
    credentials.mcpToken
  ];

  /**
    The [Service] section of the unit without its command and credentials.
  */
  settings = {
    # nginx forks once it listens, so the unit is active only when clients can connect.
    Type = "forking";
    PIDFile = "/run/${name}/nginx.pid";
    User = account;
    Group = account;
    RuntimeDirectory = name;
    RuntimeDirectoryMode = "0700";
    # The directory contains the certificate that the host renewed.
    RuntimeDirectoryPreserve = "restart";
    Restart = "always";
    RestartSec = 1;
    # A power-off must not wait for clients with open streams.
    KillMode = "mixed";
    TimeoutStopSec = 2;
    StandardOutput = "journal";
    StandardError = "journal";
    SyslogIdentifier = name;
  }
  // hardening;

  /**
    The complete [Service] section of the unit in a guest.

    `exe`: paths of the programs `agentMcp` and `nginx`.
  */
  service =
    {
      exe,
      origins ? agentMcp.allowedOrigins,
    }:
    settings
    // {
      ImportCredential = imported;
      ExecStart = builtins.concatStringsSep " " ([ exe.agentMcp ] ++ arguments { inherit exe origins; });
    };
}
