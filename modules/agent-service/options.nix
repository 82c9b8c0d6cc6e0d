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
  # Directories that must not become the agent's: these themselves, and everything below those in the second list.
  ofTheSystem =
    "(/|/(bin|boot|dev|etc|home|lib|lib64|media|mnt|nix|opt|proc|root|run|sbin|srv|sys|tmp|usr|var|var/(cache|lib|log|tmp))/?)"
    + "|/(boot|dev|etc|nix|proc|sys|usr)/.*";
in
{
  imports = [
    (lib.mkRemovedOptionModule [
      "services"
      "agent-mcp"
      "proxyPython"
    ] "Clients are always notified when a server starts.")
  ];

  options.services.agent-mcp = {
    enable = lib.mkEnableOption "MCP servers for coding agents, behind one HTTP endpoint";

    package = mkOption {
      type = types.package;
      default = pkgs.agent-mcp or (pkgs.callPackage ../packages/agent-mcp.nix { });
      defaultText = lib.literalMD "the gateway of this toolkit";
      description = "MCP gateway, which starts the servers and reports its health to systemd.";
    };

    proxy = mkOption {
      type = types.enum policy.agentMcp.proxies;
      default = builtins.head policy.agentMcp.proxies;
      description = ''
        What serves MCP over HTTP. `gateway` passes every message of a server and its clients. `mcp-proxy` is a program of
        others, for clients that depend on how it behaves: it drops progress, cancellation, and requests of servers to their
        clients.
      '';
    };

    proxyPackage = lib.mkPackageOption pkgs "mcp-proxy" {
      extraDescription = "Used if {option}`services.agent-mcp.proxy` is `mcp-proxy`.";
    };

    user = mkOption {
      type = checked.accountName;
      default = "agent";
      description = ''
        Account that the servers run as. This module declares it, and other declarations of the same account take
        precedence.
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
          why = "a system directory, but the agent would own it";
          write = builtins.toJSON policy.workspace.path;
        }
      ]);
      default = policy.workspace.path;
      description = ''
        Directory that the servers work in. They can write only to this directory and the account's home. It is created, with
        the account as its owner, unless it is a mount point.
      '';
    };

    host = mkOption {
      type = checked.listenAddress;
      default = "127.0.0.1";
      example = "0.0.0.0";
      description = ''
        Address that the endpoint listens on. Without {option}`services.agent-mcp.gate.enable`, the endpoint has neither TLS
        nor a token: every client on the network can use it and read its traffic.
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
      description = "Additional web origins that may call the endpoint from a browser.";
    };

    origins = mkOption {
      type = types.listOf checked.origin;
      internal = true;
      readOnly = true;
      default = lib.unique (
        lib.optional (cfg.allowedOrigin != null) cfg.allowedOrigin ++ cfg.allowedOrigins
      );
      defaultText = lib.literalMD "`allowedOrigin` and `allowedOrigins`";
      description = "All web origins that may call the endpoint.";
    };

    mcpConfigFile = mkOption {
      type = types.nullOr (types.strMatching "[^[:cntrl:][:space:]]+");
      default = policy.agentMcp.serversFile;
      example = "/etc/agent/mcp.json";
      description = ''
        File in Claude Code's format (`{ "mcpServers": { … } }`) that lists more servers. A relative path is relative to the
        workspace, so every process that can write there can add servers. null for none.
      '';
    };

    shell = mkOption {
      type = types.nullOr (checked.package "pkgs.mkShell { packages = [ pkgs.nodejs ]; }");
      default = null;
      example = lib.literalExpression "self.devShells.\${system}.default";
      description = ''
        Development shell, such as the result of `pkgs.mkShell`: the servers get its packages, variables and `shellHook`.
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
      description = "File with `NAME=value` lines that systemd reads when the service starts. Use it for secrets. null for none.";
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
        description = "Seconds without an answer after which systemd restarts the service.";
      };
      startTimeout = mkOption {
        type = checked.seconds policy.agentMcp.timeouts.start;
        default = policy.agentMcp.timeouts.start;
        description = "Seconds until the endpoint must answer for the first time.";
      };
    };

    resources = {
      memoryMax = mkOption {
        type = types.nullOr (checked.memoryLimit { percent = true; });
        default = null;
        example = "2G";
        description = "Memory limit of all servers together (`MemoryMax` in {manpage}`systemd.resource-control(5)`); null for no limit.";
      };
      cpuQuota = mkOption {
        type = types.nullOr checked.cpuQuota;
        default = null;
        example = "150%";
        description = "Processor time limit of all servers together, where 100% is one processor; null for no limit.";
      };
      tasksMax = mkOption {
        type = types.nullOr types.ints.positive;
        default = null;
        example = 512;
        description = "Maximal number of processes and threads of all servers together; null for systemd's default.";
      };
    };

    hardening = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = "Whether to sandbox the service. Without it, the service is confined only by its unprivileged account.";
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
          Directives of {manpage}`systemd.exec(5)`, each of which replaces this module's own value. null removes a directive.
        '';
      };
    };
  };
}
