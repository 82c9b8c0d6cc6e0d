# agent-mcp-gate.service: nginx before mcp-proxy, with TLS, the token, and a look at who calls and what for. As an account
# of its own, so that the agent reads neither key nor token.
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

  # Where who has the machine's token hands over another certificate for the same key, while it runs.
  renewalPath = "/agent-vm/certificate";

  unitSection = {
    Description = "Gate before the MCP servers of the agent";
    # What is wrong with the credentials, another try does not mend.
    StartLimitIntervalSec = 60;
    StartLimitBurst = 10;
  };

  hardening = import ./hardening.nix // {
    ProtectHome = true;
    # `-`: where the service stands alone, there may be none.
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
    Arguments of the launcher, each one word.

    `exe`: path of the program `nginx`; `listen`: address and port.
  */
  arguments =
    {
      exe,
      origins ? agentMcp.allowedOrigins,
      listen ? "0.0.0.0:${toString ports.mcp}",
      innerPort ? ports.mcpInner,
    }:
    [
      "gate"
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

  # Where the machine was handed them; a service that stands alone loads files of the same names.
  imported = [
    credentials.mcpEndpoint
    credentials.mcpCertificate
    credentials.mcpKey
    credentials.mcpToken
  ];

  /**
    Service settings of the unit, without its command and credentials.
  */
  settings = {
    # nginx goes to the background once it listens: whoever waits for this unit is not turned away.
    Type = "forking";
    PIDFile = "/run/${name}/nginx.pid";
    User = account;
    Group = account;
    RuntimeDirectory = name;
    RuntimeDirectoryMode = "0700";
    # It holds the certificate that the host renewed.
    RuntimeDirectoryPreserve = "restart";
    Restart = "always";
    RestartSec = 1;
    # Open streams end with the service; a power-off does not wait for their clients.
    KillMode = "mixed";
    TimeoutStopSec = 2;
    StandardOutput = "journal";
    StandardError = "journal";
    SyslogIdentifier = name;
  }
  // hardening;

  /**
    All service settings of the unit in a guest.

    `exe`: paths of the programs `agentMcp` (the launcher) and `nginx`.
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
