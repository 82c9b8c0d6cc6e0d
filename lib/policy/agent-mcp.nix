# agent-mcp.service: mcp-proxy and the MCP servers behind it, as the agent's user and with nothing else to reach.
let
  user = import ./user.nix;
  ports = import ./ports.nix;
  workspace = import ./workspace.nix;
  credentials = import ./credentials.nix;
  egress = import ./egress.nix;
in
rec {
  name = "agent-mcp";
  unit = "${name}.service";

  # Where mcp-proxy answers; it has no other health endpoint. JSON, which agent-vm and the guest's programs also read.
  inherit (builtins.fromJSON (builtins.readFile ./mcp.json))
    mcpPath
    ssePath
    healthPath
    serversPath
    ;
  # What the launcher writes of its servers' states.
  serversState = "/run/${name}/servers.json";

  allowedOrigins = [ "https://claude.ai" ];

  # Tool that is served at mcpPath itself; those of .mcp.json come under serversPath.
  defaultServer = "codemcp";
  serversFile = ".mcp.json";

  # Servers with a name, off until they are asked for, that a NixOS guest can have (modules/agent-service/known-servers.nix).
  # Those of the Debian guest are in lib/debian/servers.nix.
  knownServers.nixos = [
    "browser"
    "nix-language"
    "nixos"
    "rescript-language"
  ];

  # What the service has in place of `hardening`'s settings while a named server is on; null is none of it.
  hardeningFor.browser = {
    # Chromium reads /proc/cpuinfo.
    ProcSubset = null;
    # Each of them gives up the capabilities that it has not got.
    SystemCallFilter = hardening.SystemCallFilter ++ [ "capset" ];
  };

  unitSection = {
    Description = "MCP servers of the agent";
    After = [ "network.target" ];
    RequiresMountsFor = [ workspace.path ];
    # Ten failures are a fault that another try does not mend.
    StartLimitIntervalSec = startLimitInterval {
      start = timeouts.start;
      watchdog = timeouts.watchdog;
    };
    inherit StartLimitBurst;
  };
  StartLimitBurst = 10;
  # Seconds.
  timeouts = {
    # More than the host waits for a start, emulated or not, unless it is told to wait longer: a slow boot that is begun
    # again never ends. What has failed says so by itself.
    start = 900;
    stop = 5;
    watchdog = 120;
    restart = 5;
  };
  /**
    Seconds in which so many starts happen however each of them fails: by its time limit, or by the watchdog after it.
  */
  startLimitInterval =
    { start, watchdog }: StartLimitBurst * (start + watchdog + timeouts.stop + timeouts.restart + 10);

  hardening = import ./hardening.nix // {
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_UNIX"
      # Node and Python list the machine's addresses over netlink.
      "AF_NETLINK"
    ];
    # Of all home directories it sees its own: `serviceOf` binds it.
    ProtectHome = "tmpfs";
    UMask = "0027";
    # MemoryDenyWriteExecute stays off: Node, Java and every other just-in-time compiler needs what it denies.
  };

  /**
    Arguments of the launcher, each one word.

    `exe`: paths of the programs `mcpProxy` and `codemcp`, and of `mcpProxyPython`, a Python that can import mcp-proxy; without
    it clients are not notified when a server comes up.
  */
  arguments =
    {
      exe,
      origins ? allowedOrigins,
      default ? defaultServer,
      workspaceDir ? workspace.path,
      serversFiles ? [ serversFile ],
      # Nobody outside reaches mcp-proxy but by the gate.
      host ? "127.0.0.1",
      port ? ports.mcpInner,
    }:
    [
      "serve"
      "--mcp-proxy=${exe.mcpProxy}"
    ]
    ++ (
      if exe.mcpProxyPython or null == null then [ ] else [ "--mcp-proxy-python=${exe.mcpProxyPython}" ]
    )
    ++ [
      "--default-server=${default}=${exe.codemcp}"
      "--workspace=${workspaceDir}"
    ]
    ++ map (file: "--servers-file=${file}") serversFiles
    ++ [
      "--host=${host}"
      "--port=${toString port}"
      "--health-path=${healthPath}"
      "--log-level-credential=${credentials.logLevel}"
    ]
    ++ map (origin: "--allow-origin=${origin}") origins;

  # Besides PATH, which is the guest's own.
  environment = [ "LANG=${import ./locale.nix}" ];

  # Python: its output reaches the journal at once, and it leaves no caches in the workspace.
  pythonEnvironment = [
    "PYTHONUNBUFFERED=1"
    "PYTHONDONTWRITEBYTECODE=1"
    # Nothing here has plugins for pydantic, and looking for them reads the metadata of every package.
    "PYDANTIC_DISABLE_PLUGINS=1"
  ];

  /**
    Service settings of the unit, without its command and environment, in three parts: `settings`; `directories`, lists to
    which a machine may add; and `hardening`, which a machine may replace one by one.

    `account`: `name`, `group` and `home` of the user it runs as. `named`: servers that are on, by name. `start`, `watchdog`:
    seconds, the latter null for no watchdog.

    Type: attrset → { settings; directories; hardening; }
  */
  serviceOf =
    {
      account,
      workspaceDir ? workspace.path,
      named ? [ ],
      start ? timeouts.start,
      watchdog ? timeouts.watchdog,
    }:
    {
      settings = {
        Type = "notify";
        User = account.name;
        Group = account.group;
        WorkingDirectory = workspaceDir;
        RuntimeDirectory = name;
        RuntimeDirectoryMode = "0700";
        ImportCredential = [ credentials.logLevel ];
        Restart = "always";
        RestartSec = timeouts.restart;
        TimeoutStartSec = start;
        TimeoutStopSec = timeouts.stop;
        NotifyAccess = "main";
        KillMode = "mixed";
        StandardOutput = "journal";
        StandardError = "journal";
        SyslogIdentifier = name;
      }
      // (if watchdog == null then { } else { WatchdogSec = watchdog; });
      directories = {
        ReadWritePaths = [
          workspaceDir
          account.home
        ];
        BindPaths = [
          workspaceDir
          account.home
        ];
      };
      hardening =
        let
          exceptions = builtins.foldl' (all: name: all // hardeningFor.${name} or { }) { } named;
          all = hardening // exceptions;
        in
        removeAttrs all (builtins.filter (setting: all.${setting} == null) (builtins.attrNames all));
    };

  /**
    All service settings of the unit in a guest.

    `exe`: paths of the programs `agentMcp` (the launcher), `mcpProxy`, `mcpProxyPython` and `codemcp`; `path`: directories or packages
    that the servers' commands are looked up in, as one string; `named`: known servers that are on.
  */
  service =
    {
      exe,
      path,
      origins ? allowedOrigins,
      serversFiles ? [ serversFile ],
      named ? [ ],
    }:
    let
      parts = serviceOf {
        account = {
          inherit (user) name home;
          group = user.name;
        };
        inherit named;
      };
    in
    parts.settings
    // parts.directories
    // parts.hardening
    // {
      Environment = [
        "HOME=${user.home}"
      ]
      ++ environment
      ++ [ "PATH=${path}" ]
      ++ pythonEnvironment
      ++ egress.environment;
      EnvironmentFile = [ "-${egress.environmentFile}" ];
      ExecStart = builtins.concatStringsSep " " (
        [ exe.agentMcp ] ++ arguments { inherit exe origins serversFiles; }
      );
    };
}
