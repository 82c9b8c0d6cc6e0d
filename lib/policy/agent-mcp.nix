# agent-mcp.service: mcp-proxy and the MCP servers behind it, as the agent's user and with nothing else to reach.
let
  user = import ./user.nix;
  ports = import ./ports.nix;
  workspace = import ./workspace.nix;
  credentials = import ./credentials.nix;
in
rec {
  name = "agent-mcp";
  unit = "${name}.service";

  # Where mcp-proxy answers. Its /status is the health endpoint; it has no other.
  mcpPath = "/mcp";
  ssePath = "/sse";
  healthPath = "/status";
  serversPath = "/servers";

  allowedOrigins = [ "https://claude.ai" ];

  # Tool that is served at mcpPath itself; those of .mcp.json come under serversPath.
  defaultServer = "codemcp";
  serversFile = ".mcp.json";

  unitSection = {
    Description = "MCP servers of the agent";
    After = [ "network.target" ];
    RequiresMountsFor = [ workspace.path ];
    # Ten failures in a row are a fault that another try does not mend; a restart every 5 s takes 50 s.
    StartLimitIntervalSec = 300;
    StartLimitBurst = 10;
  };

  hardening = {
    NoNewPrivileges = true;
    CapabilityBoundingSet = "";
    AmbientCapabilities = "";
    ProtectSystem = "strict";
    ReadWritePaths = [
      workspace.path
      user.home
    ];
    PrivateTmp = true;
    PrivateDevices = true;
    PrivateIPC = true;
    ProtectProc = "invisible";
    ProcSubset = "pid";
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_UNIX"
      # Node and Python list the machine's addresses over netlink.
      "AF_NETLINK"
    ];
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    RemoveIPC = true;
    KeyringMode = "private";
    LockPersonality = true;
    SystemCallArchitectures = "native";
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
      # Thread pools set their own priorities and affinity; npm and git change owners to what they already are.
      "sched_setaffinity setpriority sched_setscheduler sched_setattr chown fchown lchown fchownat"
    ];
    SystemCallErrorNumber = "EPERM";
    UMask = "0022";
    # MemoryDenyWriteExecute stays off: Node, Java and every other just-in-time compiler needs what it denies.
  };

  /**
    Service settings of the unit.

    `exe`: paths of the programs `agentMcp` (the launcher), `mcpProxy` and `codemcp`; `path`: directories or packages
    that the servers' commands are looked up in, as one string.
  */
  service =
    {
      exe,
      path,
      origins ? allowedOrigins,
    }:
    {
      Type = "notify";
      User = user.name;
      Group = user.name;
      WorkingDirectory = workspace.path;
      RuntimeDirectory = name;
      RuntimeDirectoryMode = "0700";
      ImportCredential = [ credentials.logLevel ];
      Environment = [
        "HOME=${user.home}"
        "LANG=C.UTF-8"
        "PATH=${path}"
        # Python: its output reaches the journal at once, and it leaves no caches in the workspace.
        "PYTHONUNBUFFERED=1"
        "PYTHONDONTWRITEBYTECODE=1"
        # Nothing here has plugins for pydantic, and looking for them reads the metadata of every package.
        "PYDANTIC_DISABLE_PLUGINS=1"
      ];
      ExecStart = builtins.concatStringsSep " " (
        [
          exe.agentMcp
          "serve"
          "--mcp-proxy=${exe.mcpProxy}"
          "--default-server=${defaultServer}=${exe.codemcp}"
          "--workspace=${workspace.path}"
          "--servers-file=${serversFile}"
          "--host=0.0.0.0"
          "--port=${toString ports.mcp}"
          "--health-path=${healthPath}"
          "--log-level-credential=${credentials.logLevel}"
        ]
        ++ map (origin: "--allow-origin=${origin}") origins
      );
      Restart = "always";
      RestartSec = 5;
      # The servers start within this or are reported as broken; emulated processors are slow.
      TimeoutStartSec = 180;
      TimeoutStopSec = 5;
      WatchdogSec = 60;
      NotifyAccess = "main";
      KillMode = "mixed";
      StandardOutput = "journal";
      StandardError = "journal";
      SyslogIdentifier = name;
    }
    // hardening;
}
