{
  config,
  lib,
  modulesPath,
  options,
  ...
}:
let
  policy = import ../../lib/policy;
  cfg = config.services.agent-mcp;
  at = "services.agent-mcp";
  inherit (import ../types { inherit lib; }) shown;
  accounts = import ../accounts.nix {
    inherit
      config
      lib
      modulesPath
      options
      ;
  };
  directives = import ./directives.nix;
  isName = name: builtins.match policy.grammar.server_name name != null;
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
  enabled = builtins.attrNames (lib.filterAttrs (_: server: server.enable) cfg.servers);
  wrongGlobals = map (variable: "${at}.extraEnvironment.\"${variable}\"") (
    lib.filter (variable: !isVariable variable) (builtins.attrNames cfg.extraEnvironment)
  );

  accountObstacle = accounts.obstacle {
    account = cfg.user;
    units = [ policy.agentMcp.name ];
  };
  groupObstacle = accounts.groupObstacle cfg.group;

  # Returns the known directive that is most similar to a name, or null.
  nearest =
    name:
    let
      near = lib.sort (one: other: one.distance < other.distance) (
        map (known: {
          inherit known;
          distance = lib.strings.levenshtein (lib.toLower name) (lib.toLower known);
        }) (builtins.attrNames directives)
      );
      best = lib.head near;
    in
    if best.distance <= 4 then best.known else null;
  unknown = lib.filter (name: !directives ? ${name}) (builtins.attrNames cfg.hardening.settings);
  isSwitch =
    name: value:
    let
      words = directives.${name} or null;
    in
    words == null
    || value == null
    || builtins.isBool value
    || lib.elem value (
      words
      ++ [
        0
        1
        "0"
        "1"
        "no"
        "off"
        "false"
        "on"
        "true"
        "yes"
      ]
    );
  wrongSwitches = lib.filter (name: !isSwitch name cfg.hardening.settings.${name}) (
    builtins.attrNames cfg.hardening.settings
  );

  # Options that have no effect without the reverse proxy.
  unguarded = lib.filter (name: cfg.gate.${name} != null) [
    "certificateFile"
    "certificateKeyFile"
    "tokenFile"
  ];
  homes = [
    "/home/"
    "/root/"
    "/run/user/"
  ];
  hidesConfigFile =
    cfg.hardening.enable
    && cfg.mcpConfigFile != null
    && lib.any (home: lib.hasPrefix home cfg.mcpConfigFile) homes
    && !lib.hasPrefix "${cfg.workspaceDir}/" cfg.mcpConfigFile;
  # Variables whose names suggest a secret. A path as the value is fine.
  secrets = lib.filter (
    variable:
    builtins.match ".*(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|PRIVATE_?KEY).*" (lib.toUpper variable)
    != null
    && builtins.match "|/.*" cfg.extraEnvironment.${variable} == null
  ) (builtins.attrNames cfg.extraEnvironment);
  isLoopback =
    cfg.host == "localhost" || cfg.host == "::1" || builtins.match "127\\..*" cfg.host != null;
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = lib.elem cfg.defaultServer enabled;
        message =
          if cfg.servers ? ${cfg.defaultServer} then
            ''
              ${at}.servers.${shown cfg.defaultServer}.enable is false, but ${at}.defaultServer is ${shown cfg.defaultServer}, and one
              server must answer at ${policy.agentMcp.mcpPath}. Write
                ${at}.defaultServer = ${shown (if enabled == [ ] then "my-server" else lib.head enabled)};${
                  lib.optionalString (enabled == [ ]) ''

                    ${at}.servers.my-server.command = "…";''
                }
              or leave ${shown cfg.defaultServer} enabled.
            ''
          else
            ''
              ${at}.defaultServer is ${shown cfg.defaultServer}, which is not one of the servers ${toString enabled}. Write
                ${at}.defaultServer = ${shown (if enabled == [ ] then "my-server" else lib.head enabled)};
              or declare it:
                ${at}.servers.${shown cfg.defaultServer}.command = "…";
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
        assertion = wrongVariables ++ wrongGlobals == [ ];
        message = ''
          ${
            lib.concatStringsSep ", " (wrongVariables ++ wrongGlobals)
          } is not a valid name of an environment variable: only letters,
          digits and _ are allowed. Write for example
            ${at}.extraEnvironment.MY_VARIABLE = "…";
        '';
      }
      {
        assertion =
          !cfg.gate.enable || (cfg.gate.certificateFile != null) == (cfg.gate.certificateKeyFile != null);
        message = ''
          ${at}.gate.certificateFile and ${at}.gate.certificateKeyFile must both be set or both be null. Write for example
            ${at}.gate.certificateKeyFile = "/run/secrets/agent-mcp.key";
        '';
      }
      {
        assertion = !cfg.gate.enable || cfg.gate.innerPort != cfg.port;
        message = ''
          ${at}.gate.innerPort and ${at}.port are both ${toString cfg.port}, but they must differ. Write
            ${at}.gate.innerPort = ${toString (if cfg.port == 65535 then 65534 else cfg.port + 1)};
        '';
      }
      {
        assertion = cfg.gate.enable || cfg.port >= 1024;
        message = ''
          ${at}.port is ${toString cfg.port}, but the account ${cfg.user} cannot listen on ports below 1024. Write
            ${at}.gate.enable = true;
          or use a port from 1024 to 65535.
        '';
      }
      {
        assertion = cfg.user != policy.mcpReverseProxy.account;
        message = ''
          ${at}.user is "${policy.mcpReverseProxy.account}", the account of the reverse proxy, which can read the token. Write
            ${at}.user = "agent";
        '';
      }
      {
        assertion = accountObstacle == null;
        message = ''
          ${at}.user is "${cfg.user}", ${toString accountObstacle}, but the servers run an agent's commands. Write
            ${at}.user = "agent";
        '';
      }
      {
        # For root, the assertion about the user is enough.
        assertion = groupObstacle == null || cfg.user == "root";
        message = ''
          ${at}.group is "${cfg.group}", ${toString groupObstacle}. Write
            ${at}.group = "agent";
        '';
      }
      {
        assertion = unknown == [ ];
        message = lib.concatMapStringsSep "\n" (
          name:
          let
            near = nearest name;
          in
          ''
            ${at}.hardening.settings.${name} is ${
              shown cfg.hardening.settings.${name}
            }, but systemd.exec(5) has no such directive. Write
              ${
                if near != null then
                  "${at}.hardening.settings.${near} = ${shown cfg.hardening.settings.${name}};"
                else
                  "systemd.services.${policy.agentMcp.name}.serviceConfig.${name} = ${
                    shown cfg.hardening.settings.${name}
                  };"
              }
          ''
        ) unknown;
      }
      {
        assertion = wrongSwitches == [ ];
        message = lib.concatMapStringsSep "\n" (name: ''
          ${at}.hardening.settings.${name} is ${
            shown cfg.hardening.settings.${name}
          }, but its values are true, false${
            lib.concatMapStrings (word: ", ${shown word}") directives.${name}
          }. Write
            ${at}.hardening.settings.${name} = true;
        '') wrongSwitches;
      }
      {
        assertion = cfg.gate.enable || unguarded == [ ];
        message = ''
          ${at}.gate.${toString (lib.take 1 unguarded)} is ${
            shown (cfg.gate.${lib.head unguarded})
          }, but services.agent-mcp.gate is off, so the option has
          no effect. Write
            ${at}.gate.enable = true;
        '';
      }
      {
        assertion = !hidesConfigFile;
        message = ''
          ${at}.mcpConfigFile is ${shown cfg.mcpConfigFile}, in a home directory that is hidden from the service. Write
            ${at}.mcpConfigFile = "/etc/agent/mcp.json";
        '';
      }
    ];
    warnings =
      lib.optional (cfg.openFirewall && isLoopback) ''
        ${at}.openFirewall opens port ${toString cfg.port}, but the service listens on ${cfg.host} only. Write
          ${at}.host = "0.0.0.0";
        or set ${at}.openFirewall to false.
      ''
      ++ lib.optional (!isLoopback && !cfg.gate.enable) ''
        ${at}.host is ${cfg.host}: every client that reaches it can use the agent's tools, without TLS and without a token. Write
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
              if cfg.gate.tokenFile == null then "requires no token" else "has no TLS"
            }. Write for example
              ${at}.gate.${
                if cfg.gate.tokenFile == null then "tokenFile" else "certificateFile"
              } = "/run/secrets/agent-mcp.${if cfg.gate.tokenFile == null then "token" else "pem"}";
          ''
      ++ lib.optional (lib.elem "*" cfg.allowedOrigins || cfg.allowedOrigin == "*") ''
        ${at}.allowedOrigins contains "*": every web page in a browser on this network can call the agent's tools.
      ''
      ++ lib.optional (secrets != [ ]) ''
        ${at}.extraEnvironment.${lib.head secrets} ends up in the world-readable Nix store. If it is a secret, write
          ${at}.environmentFile = "/run/secrets/agent-mcp";
        and ${lib.head secrets}=… into that file.
      ''
      ++ lib.optional (!cfg.hardening.enable) ''
        ${at}.hardening.enable is false: the servers can access everything that the account ${cfg.user} can access. To relax a
        single directive, write for example
          ${at}.hardening.settings.PrivateDevices = false;
      '';
  };
}
