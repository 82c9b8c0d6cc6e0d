{
  config,
  lib,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
  cfg = config.services.agent-mcp;
  inherit (lib) mkOption types;
  checked = import ../types { inherit lib; };

  # A path in a unit file, without characters that systemd interprets.
  directory =
    more:
    checked.absolutePath {
      description = "absolute path of a directory";
      example = builtins.toJSON policy.workspace.path;
      characters = "%:\"\\[:cntrl:][:space:]";
      inherit more;
    };
  # The account would own these directories, or everything below the second list.
  ofTheSystem =
    "(/|/(bin|boot|dev|etc|home|lib|lib64|media|mnt|nix|opt|proc|root|run|sbin|srv|sys|tmp|usr|var|var/(cache|lib|log|tmp))/?)"
    + "|/(boot|dev|etc|nix|proc|sys|usr)/.*";
in
{
  options.services.agent-mcp = {
    enable = lib.mkEnableOption "MCP servers for coding agents, behind one HTTP endpoint";

    package = mkOption {
      type = types.package;
      default = pkgs.agent-mcp or (pkgs.callPackage ../packages/agent-mcp.nix { });
      defaultText = lib.literalMD "the launcher of this toolkit";
      description = "Launcher that starts the servers and the proxy, and reports their health to systemd.";
    };

    proxyPackage = lib.mkPackageOption pkgs "mcp-proxy" { };

    proxyPython = mkOption {
      type = types.nullOr types.package;
      default = pkgs.python3.withPackages (python: [ (python.toPythonModule cfg.proxyPackage) ]);
      defaultText = lib.literalExpression ''
        pkgs.python3.withPackages (python: [ (python.toPythonModule config.services.agent-mcp.proxyPackage) ])
      '';
      description = ''
        Python that can import {option}`services.agent-mcp.proxyPackage`. The proxy runs in it, so that clients are notified when a
        server comes up and get the notifications of their servers. null runs the proxy as it is, for one that is not a package
        of `pkgs.python3`.
      '';
    };

    user = mkOption {
      type = checked.accountName;
      default = "agent";
      description = ''
        Account that the servers run as. It is declared with defaults that any other declaration of the same
        account overrides.
      '';
    };

    group = mkOption {
      type = checked.accountName;
      default = cfg.user;
      defaultText = lib.literalExpression "config.services.agent-mcp.user";
      description = "Group that the servers run as.";
    };

    workspaceDir = mkOption {
      type = directory (value: [
        {
          broken = builtins.match ofTheSystem value != null;
          why = "which is the system's: the agent would own it";
          write = builtins.toJSON policy.workspace.path;
        }
      ]);
      default = policy.workspace.path;
      description = ''
        Directory that the servers work in, and the only one besides the account's home that they can write to.
        Created, and owned by the account, unless it is a mount point.
      '';
    };

    host = mkOption {
      type = checked.listenAddress;
      default = "127.0.0.1";
      example = "0.0.0.0";
      description = ''
        Address that the endpoint listens on. Without {option}`services.agent-mcp.gate.enable` the endpoint has no TLS and
        asks for no token: open it to a network only where everybody in that network may use it and read along.
      '';
    };

    port = mkOption {
      type = checked.port;
      default = policy.ports.mcp;
      description = "TCP port that the endpoint listens on.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open {option}`services.agent-mcp.port` in the firewall.";
    };

    allowedOrigin = mkOption {
      type = types.nullOr checked.origin;
      default = builtins.head policy.agentMcp.allowedOrigins;
      description = "Web origin that may call the endpoint from a browser; null for none.";
    };

    allowedOrigins = mkOption {
      type = types.listOf checked.origin;
      default = [ ];
      example = [ "https://app.example.org" ];
      description = "More web origins that may call the endpoint from a browser.";
    };

    origins = mkOption {
      type = types.listOf checked.origin;
      internal = true;
      readOnly = true;
      default = lib.unique (
        lib.optional (cfg.allowedOrigin != null) cfg.allowedOrigin ++ cfg.allowedOrigins
      );
      defaultText = lib.literalMD "both of the above";
      description = "Every web origin that may call.";
    };

    mcpConfigFile = mkOption {
      type = types.nullOr (types.strMatching "[^[:cntrl:][:space:]]+");
      default = policy.agentMcp.serversFile;
      example = "/etc/agent/mcp.json";
      description = ''
        File in Claude Code's format (`{ "mcpServers": { … } }`) that names more servers. A relative path is looked
        up in the workspace, so every process that can write there can add servers. null reads none.
      '';
    };

    shell = mkOption {
      type = types.nullOr (checked.package "pkgs.mkShell { packages = [ pkgs.nodejs ]; }");
      default = null;
      example = lib.literalExpression "self.devShells.\${system}.default";
      description = ''
        Development shell, as `pkgs.mkShell` makes one: the servers get its packages, variables and `shellHook`.
        null for none.
      '';
    };

    extraEnvironment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example.RUST_LOG = "info";
      description = "Environment variables of all servers. They end up in the world-readable store.";
    };

    environmentFile = mkOption {
      type = types.nullOr (checked.secretFile ''"/run/secrets/agent-mcp"'');
      default = null;
      example = "/run/secrets/agent-mcp";
      description = "File with `NAME=value` lines, read by systemd when the service starts: the place for secrets. null for none.";
    };

    healthCheck = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = "Whether systemd restarts the service when its endpoint does not answer.";
      };
      interval = mkOption {
        type = checked.seconds policy.agentMcp.timeouts.watchdog;
        default = policy.agentMcp.timeouts.watchdog;
        description = "Seconds without an answer after which the service has failed.";
      };
      startTimeout = mkOption {
        type = checked.seconds policy.agentMcp.timeouts.start;
        default = policy.agentMcp.timeouts.start;
        description = "Seconds that the endpoint may take until its first answer.";
      };
    };

    resources = {
      memoryMax = mkOption {
        type = types.nullOr (checked.memoryLimit { percent = true; });
        default = null;
        example = "2G";
        description = "Memory that the servers may use together, as {manpage}`systemd.resource-control(5)` has it; null for no limit.";
      };
      cpuQuota = mkOption {
        type = types.nullOr checked.cpuQuota;
        default = null;
        example = "150%";
        description = "Processor time that the servers may use together, 100% for each processor; null for no limit.";
      };
      tasksMax = mkOption {
        type = types.nullOr types.ints.positive;
        default = null;
        example = 512;
        description = "Processes and threads that the servers may have together; null for systemd's default.";
      };
    };

    hardening = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = "Whether to confine the service. What is left out then is everything but its unprivileged account.";
      };
      settings = mkOption {
        type =
          with types;
          let
            atom = nullOr (oneOf [
              bool
              int
              str
            ]);
          in
          attrsOf (either atom (listOf str));
        default = { };
        example = {
          MemoryDenyWriteExecute = true;
          PrivateDevices = false;
        };
        description = ''
          Directives of {manpage}`systemd.exec(5)` that replace the toolkit's own, one by one. null drops a directive.
        '';
      };
    };
  };
}
