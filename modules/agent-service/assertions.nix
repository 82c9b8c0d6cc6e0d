{ config, lib, ... }:
let
  policy = import ../../lib/policy;
  cfg = config.services.agent-mcp;
  at = "services.agent-mcp";
  # As the launcher has it: a name is a segment of a URL.
  isName = name: builtins.match "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}" name != null;
  isVariable = name: builtins.match "[A-Za-z_][A-Za-z0-9_]*" name != null;
  wrongNames = lib.filter (name: !isName name) (builtins.attrNames cfg.servers);
  wrongVariables = lib.concatLists (
    lib.mapAttrsToList (
      name: server:
      map (variable: "${at}.servers.${name}.environment.\"${variable}\"") (
        lib.filter (variable: !isVariable variable) (builtins.attrNames server.environment)
      )
    ) cfg.servers
  );
  isLoopback =
    cfg.host == "localhost" || cfg.host == "::1" || builtins.match "127\\..*" cfg.host != null;
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.servers ? ${cfg.defaultServer} && cfg.servers.${cfg.defaultServer}.enable;
        message = ''
          ${at}.defaultServer is "${cfg.defaultServer}", which is no enabled server. Write
            ${at}.servers."${cfg.defaultServer}" = { enable = true; command = "…"; };
          or name one of: ${
            lib.concatStringsSep ", " (
              builtins.attrNames (lib.filterAttrs (_: server: server.enable) cfg.servers)
            )
          }.
        '';
      }
      {
        assertion = wrongNames == [ ];
        message = ''
          ${at}.servers has the name${lib.optionalString (lib.length wrongNames != 1) "s"} ${
            lib.concatMapStringsSep ", " builtins.toJSON wrongNames
          }. A name is part of a URL: letters, digits, ".", "_" and "-", 64 at most, for example
            ${at}.servers.my-server = { … };
        '';
      }
      {
        assertion = wrongVariables == [ ];
        message = "${lib.concatStringsSep ", " wrongVariables} is no name of an environment variable: letters, digits and _ only.";
      }
      {
        assertion =
          !cfg.gate.enable || (cfg.gate.certificateFile != null) == (cfg.gate.certificateKeyFile != null);
        message = ''
          ${at}.gate.certificateFile and ${at}.gate.certificateKeyFile belong together. Write both, for example
            ${at}.gate.certificateKeyFile = "/run/secrets/agent-mcp.key";
        '';
      }
      {
        assertion = !cfg.gate.enable || cfg.gate.innerPort != cfg.port;
        message = ''
          ${at}.gate.innerPort and ${at}.port are both ${toString cfg.port}, but one port leads to one service. Write
            ${at}.gate.innerPort = ${toString (if cfg.port == 65535 then 65534 else cfg.port + 1)};
        '';
      }
      {
        assertion = cfg.gate.enable || cfg.port >= 1024;
        message = ''
          ${at}.port is ${toString cfg.port}, where the account ${cfg.user} may not listen. Write
            ${at}.gate.enable = true;
          or a port from 1024 on.
        '';
      }
      {
        assertion = cfg.user != policy.mcpGate.account;
        message = ''
          ${at}.user is "${policy.mcpGate.account}", the account that has the token. Write
            ${at}.user = "agent";
        '';
      }
      {
        assertion = cfg.user != "root";
        message = ''
          ${at}.user is "root": the servers run what an agent asks for. Write
            ${at}.user = "agent";
        '';
      }
    ];
    warnings =
      lib.optional (cfg.openFirewall && isLoopback) ''
        ${at}.openFirewall opens port ${toString cfg.port}, but the service listens on ${cfg.host} only. Write
          ${at}.host = "0.0.0.0";
        or leave the port closed.
      ''
      ++ lib.optional (!isLoopback && !cfg.gate.enable) ''
        ${at}.host is ${cfg.host}: whoever reaches it may use the agent's tools, without TLS and without a token. Write
          ${at}.gate.enable = true;
      ''
      ++
        lib.optional
          (
            cfg.gate.enable
            && !cfg.gate.fromHost
            && (cfg.gate.tokenFile == null || cfg.gate.certificateFile == null)
          )
          ''
            ${at}.gate ${
              if cfg.gate.tokenFile == null then "asks for no token" else "has no TLS"
            }. Write for example
              ${at}.gate.${
                if cfg.gate.tokenFile == null then "tokenFile" else "certificateFile"
              } = "/run/secrets/agent-mcp.${if cfg.gate.tokenFile == null then "token" else "pem"}";
          ''
      ++ lib.optional (lib.elem "*" cfg.allowedOrigins || cfg.allowedOrigin == "*") ''
        ${at}.allowedOrigins holds "*": every web page that a browser on this network shows may call the agent's tools.
      ''
      ++ lib.optional (!cfg.hardening.enable) ''
        ${at}.hardening.enable is false: what runs there sees all that the account ${cfg.user} can see. To relax one
        directive, write for example
          ${at}.hardening.settings.PrivateDevices = false;
      '';
  };
}
