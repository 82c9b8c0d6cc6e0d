{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  policy = import ../../lib/policy;
  cfg = config.services.agent-mcp;
  inherit (policy) agentMcp;

  account = {
    name = cfg.user;
    inherit (cfg) group;
    inherit (config.users.users.${cfg.user}) home;
  };

  inShell = import ../../lib/in-dev-shell.nix { inherit lib pkgs; };

  command = [
    (lib.getExe cfg.package)
  ]
  ++ agentMcp.arguments {
    exe = {
      mcpProxy = if cfg.proxy == "mcp-proxy" then lib.getExe cfg.proxyPackage else null;
      codemcp = cfg.serverPrograms.${cfg.defaultServer};
    };
    default = cfg.defaultServer;
    inherit (cfg) workspaceDir;
    # Behind the reverse proxy, only nginx reaches it.
    host = if cfg.gate.enable then "127.0.0.1" else cfg.host;
    port = if cfg.gate.enable then cfg.gate.innerPort else cfg.port;
    serversFiles = [
      "${cfg.serversFile}"
    ]
    ++ lib.optional (cfg.mcpConfigFile != null) cfg.mcpConfigFile;
    inherit (cfg) origins;
  };

  toAttrs = import ../../lib/environment.nix;

  service = agentMcp.serviceOf {
    inherit account;
    inherit (cfg) workspaceDir;
    named = builtins.attrNames (lib.filterAttrs (_: server: server.enable) cfg.servers);
    start = cfg.healthCheck.startTimeout;
    watchdog = if cfg.healthCheck.enable then cfg.healthCheck.interval else null;
  };
  hardening = lib.filterAttrs (_: value: value != null) (
    lib.optionalAttrs cfg.hardening.enable service.hardening // cfg.hardening.settings
  );
in
{
  config = lib.mkIf cfg.enable {
    systemd.services.${agentMcp.name} = {
      description = agentMcp.unitSection.Description;
      wantedBy = [ "multi-user.target" ];
      after = agentMcp.unitSection.After;
      unitConfig = {
        RequiresMountsFor = [ cfg.workspaceDir ];
        inherit (agentMcp.unitSection) StartLimitBurst;
        StartLimitIntervalSec = agentMcp.startLimitInterval {
          start = cfg.healthCheck.startTimeout;
          watchdog = cfg.healthCheck.interval;
        };
      };
      # The PATH in which commands of servers are looked up.
      path = [
        pkgs.bash
        pkgs.git
        config.system.path
      ];
      environment = {
        HOME = account.home;
      }
      // toAttrs (agentMcp.environment ++ agentMcp.pythonEnvironment)
      # A % in a value is escaped, because systemd reads it as a specifier.
      // lib.mapAttrs (_: lib.replaceStrings [ "%" ] [ "%%" ]) cfg.extraEnvironment;
      serviceConfig = lib.mkMerge [
        # Defaults, so that a configuration can override single directives.
        (lib.mapAttrs (_: lib.mkDefault) service.settings)
        # Not defaults: a configuration's values are added to these.
        service.directories
        (lib.mapAttrs (
          name: value: if service.directories ? ${name} then value else lib.mkDefault value
        ) hardening)
        {
          ExecStart = utils.escapeSystemdExecArgs (
            lib.optional (cfg.shell != null) "${inShell cfg.shell}" ++ command
          );
          EnvironmentFile = lib.mkIf (cfg.environmentFile != null) [ cfg.environmentFile ];
          MemoryMax = lib.mkIf (cfg.resources.memoryMax != null) cfg.resources.memoryMax;
          CPUQuota = lib.mkIf (cfg.resources.cpuQuota != null) cfg.resources.cpuQuota;
          TasksMax = lib.mkIf (cfg.resources.tasksMax != null) cfg.resources.tasksMax;
        }
      ];
    };

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ cfg.port ];
  };
}
