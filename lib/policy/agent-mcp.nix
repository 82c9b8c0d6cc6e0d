# agent-mcp.service: the MCP gateway and the servers behind it. It runs as the agent's user and is confined by systemd.
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

  # URL paths of the gateway. In JSON, because agent-vm and the guest's programs read them too.
  inherit (builtins.fromJSON (builtins.readFile ./mcp.json))
    mcpPath
    ssePath
    healthPath
    serversPath
    ;
  # File to which the gateway writes the states of its servers.
  serversState = "/run/${name}/servers.json";

  allowedOrigins = [ "https://claude.ai" ];

  # Server at mcpPath. The servers of .mcp.json are below serversPath.
  defaultServer = "codemcp";

  # What serves MCP over HTTP: the gateway itself, or mcp-proxy, to which the gateway then connects the servers.
  proxies = [
    "gateway"
    "mcp-proxy"
  ];
  serversFile = ".mcp.json";

  # Names of each guest's predefined servers, off by default (modules/agent-service/known-servers.nix and
  # lib/debian/servers.nix). In JSON, because agent-vm reads them too, before a guest is built.
  knownServers = builtins.fromJSON (builtins.readFile ./known-servers.json);

  # Settings that replace those of `hardening` while a predefined server is on; null removes a setting.
  hardeningFor =
    let
      chromium = {
        # Chromium reads /proc/cpuinfo.
        ProcSubset = null;
        # Chromium's processes call capset to drop capabilities, even though they have none.
        SystemCallFilter = hardening.SystemCallFilter ++ [ "capset" ];
      };
    in
    {
      browser = chromium;
      playwright = chromium;
    };

  unitSection = {
    Description = "MCP servers of the agent";
    After = [ "network.target" ];
    RequiresMountsFor = [ workspace.path ];
    # After ten failures, another restart does not help.
    StartLimitIntervalSec = startLimitInterval {
      start = timeouts.start;
      watchdog = timeouts.watchdog;
    };
    inherit StartLimitBurst;
  };
  StartLimitBurst = 10;
  # In seconds.
  timeouts = {
    # Longer than the host waits for a start by default, with or without KVM: systemd must not restart a service that is
    # only slow. A service that fails exits before this timeout.
    start = 900;
    stop = 5;
    watchdog = 120;
    restart = 5;
  };
  /**
    Seconds in which `StartLimitBurst` starts fit, even if each of them ends by its timeout and the watchdog.
  */
  startLimitInterval =
    { start, watchdog }: StartLimitBurst * (start + watchdog + timeouts.stop + timeouts.restart + 10);

  hardening = import ./hardening.nix // {
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_UNIX"
      # Node and Python use netlink to list the machine's addresses.
      "AF_NETLINK"
    ];
    # The service sees only its own home directory: `serviceOf` mounts it there.
    ProtectHome = "tmpfs";
    UMask = "0027";
    # No MemoryDenyWriteExecute: the just-in-time compilers of Node, Java and others need writable executable memory.
  };

  /**
    Command-line arguments of the gateway, one list element each.

    `exe`: paths of the program `codemcp`, and of `mcpProxy` if that serves MCP instead of the gateway.
  */
  arguments =
    {
      exe,
      origins ? allowedOrigins,
      default ? defaultServer,
      workspaceDir ? workspace.path,
      serversFiles ? [ serversFile ],
      # On loopback only: other machines reach it through the reverse proxy.
      host ? "127.0.0.1",
      port ? ports.mcpInner,
    }:
    [ "serve" ]
    ++ (if exe.mcpProxy or null == null then [ ] else [ "--mcp-proxy=${exe.mcpProxy}" ])
    ++ [
      "--default-server=${default}=${exe.codemcp}"
      "--workspace=${workspaceDir}"
    ]
    # codemcp's version is pinned. A process that is asked for other versions would have to be started for that.
    ++ (if default == defaultServer then [ "--sessions-only=${default}" ] else [ ])
    ++ map (file: "--servers-file=${file}") serversFiles
    ++ [
      "--host=${host}"
      "--port=${toString port}"
      "--health-path=${healthPath}"
      "--log-level-credential=${credentials.logLevel}"
    ]
    ++ map (origin: "--allow-origin=${origin}") origins;

  # Environment of the service. Each guest adds its own PATH.
  environment = [ "LANG=${import ./locale.nix}" ];

  # For Python: unbuffered output, and no bytecode files in the workspace.
  pythonEnvironment = [
    "PYTHONUNBUFFERED=1"
    "PYTHONDONTWRITEBYTECODE=1"
    # No installed package has plugins for pydantic, and the search for them reads the metadata of every package.
    "PYDANTIC_DISABLE_PLUGINS=1"
  ];

  /**
    The [Service] section of the unit without its command and environment, in three parts: `settings`; `directories`, lists
    to which a configuration can add; and `hardening`, whose settings a configuration can replace one by one.

    `account`: `name`, `group` and `home` of the service's user. `named`: names of the predefined servers that are on.
    `start`: start timeout in seconds. `watchdog`: watchdog timeout in seconds, or null for no watchdog.

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
        # A process that runs out of memory takes only itself: other servers and sessions go on.
        OOMPolicy = "continue";
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
    The complete [Service] section of the unit in a guest.

    `exe`: paths of the programs `agentMcp` (the gateway), `codemcp`, and `mcpProxy` if that serves MCP. `path`: PATH of the
    servers. `named`: names of the predefined servers that are on.
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
