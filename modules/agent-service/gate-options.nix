{ lib, pkgs, ... }:
let
  policy = import ../../lib/policy;
  inherit (lib) mkOption types;
  checked = import ../types { inherit lib; };
  secret = name: types.nullOr (checked.secretFile ''"/run/secrets/agent-mcp.${name}"'');
in
{
  options.services.agent-mcp.gate = {
    enable = lib.mkEnableOption "" // {
      description = ''
        Whether nginx stands before the servers and lets in who has the token, over TLS, by one of the names of
        {option}`services.agent-mcp.gate.hosts`, and from no web page but those of the allowed origins. It runs as an account
        of its own, so that what the servers start reads neither the key nor the token.
      '';
    };

    package = lib.mkPackageOption pkgs "nginx" { };

    certificateFile = mkOption {
      type = types.nullOr (
        checked.absolutePath {
          description = "absolute path of a file";
          example = ''"/run/secrets/agent-mcp.pem"'';
          characters = "%:\"\\[:cntrl:][:space:]";
        }
      );
      default = null;
      example = "/run/secrets/agent-mcp.pem";
      description = "Certificate of the endpoint, as PEM, with those between it and its authority; null for no TLS.";
    };

    certificateKeyFile = mkOption {
      type = secret "key";
      default = null;
      example = "/run/secrets/agent-mcp.key";
      description = "Its private key, for root alone to read: systemd hands it to nginx.";
    };

    tokenFile = mkOption {
      type = secret "token";
      default = null;
      example = "/run/secrets/agent-mcp.token";
      description = ''
        File with the bearer token that clients have to have: 32 to 128 digits of 0-9 and a-f, as
        {command}`openssl rand -hex 32` makes them. For root alone to read. null asks for no token.
      '';
    };

    hosts = mkOption {
      type = types.nonEmptyListOf checked.endpointHost;
      default = [
        "localhost"
        "127.0.0.1"
        "[::1]"
      ];
      example = [ "agent.example.org" ];
      description = "Names and addresses that clients call the endpoint by. Requests with another Host are refused.";
    };

    innerPort = mkOption {
      type = checked.port;
      default = policy.ports.mcpInner;
      description = "Port of 127.0.0.1 that the servers themselves are on.";
    };

    fromHost = mkOption {
      type = types.bool;
      internal = true;
      default = false;
      description = "Whether all of this is handed over by who starts the machine, at each start.";
    };
  };
}
