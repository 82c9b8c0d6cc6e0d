# services.agent-mcp.gate: nginx as a reverse proxy for the MCP gateway, which checks TLS, token, Host and Origin.
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
  inherit (policy) credentials mcpReverseProxy;

  # Each file is loaded as the credential that an agent machine gets from its host.
  endpoint = pkgs.writeText "agent-mcp-endpoint.json" (
    builtins.toJSON {
      tls = cfg.gate.certificateFile != null;
      auth = cfg.gate.tokenFile != null;
      inherit (cfg.gate) hosts;
    }
  );
  loaded = [
    "${credentials.mcpEndpoint}:${endpoint}"
  ]
  ++ lib.optionals (cfg.gate.certificateFile != null) [
    "${credentials.mcpCertificate}:${cfg.gate.certificateFile}"
    "${credentials.mcpKey}:${cfg.gate.certificateKeyFile}"
  ]
  ++ lib.optional (cfg.gate.tokenFile != null) "${credentials.mcpToken}:${cfg.gate.tokenFile}";

  address = if cfg.host == "localhost" then "127.0.0.1" else cfg.host;
  listen =
    if lib.hasInfix ":" address then
      "[${address}]:${toString cfg.port}"
    else
      "${address}:${toString cfg.port}";

  command = [
    (lib.getExe cfg.package)
  ]
  ++ mcpReverseProxy.arguments {
    exe.nginx = lib.getExe cfg.gate.package;
    inherit (cfg) origins;
    inherit listen;
    inherit (cfg.gate) innerPort;
  };
in
{
  config = lib.mkIf (cfg.enable && cfg.gate.enable) {
    users.users.${mcpReverseProxy.account} = {
      isSystemUser = true;
      group = mcpReverseProxy.account;
      description = "Reverse proxy for the agent's MCP servers";
    };
    users.groups.${mcpReverseProxy.account} = { };

    systemd.services.${mcpReverseProxy.name} = {
      description = mcpReverseProxy.unitSection.Description;
      wantedBy = [ "multi-user.target" ];
      unitConfig = {
        inherit (mcpReverseProxy.unitSection) StartLimitIntervalSec StartLimitBurst;
      };
      serviceConfig = lib.mkMerge [
        # Defaults, so that a configuration can override single directives.
        (lib.mapAttrs (_: lib.mkDefault) mcpReverseProxy.settings)
        {
          ExecStart = utils.escapeSystemdExecArgs command;
        }
        (lib.mkIf (cfg.port < 1024) {
          AmbientCapabilities = [ "CAP_NET_BIND_SERVICE" ];
          CapabilityBoundingSet = [ "CAP_NET_BIND_SERVICE" ];
        })
        (
          if cfg.gate.fromHost then
            { ImportCredential = mcpReverseProxy.imported; }
          else
            { LoadCredential = loaded; }
        )
      ];
    };
  };
}
