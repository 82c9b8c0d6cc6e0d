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
        Whether to run nginx as a reverse proxy for the servers. It terminates TLS and accepts only requests with the token,
        for one of the names in {option}`services.agent-mcp.gate.hosts`, and, from browsers, of an allowed origin. It has its
        own account, so that the servers and their programs cannot read the key and the token.
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
      description = "Certificate of the endpoint in PEM format, followed by intermediate certificates. null for no TLS.";
    };

    certificateKeyFile = mkOption {
      type = secret "key";
      default = null;
      example = "/run/secrets/agent-mcp.key";
      description = "Private key of the certificate. It should be readable only by root: systemd passes it to nginx.";
    };

    tokenFile = mkOption {
      type = secret "token";
      default = null;
      example = "/run/secrets/agent-mcp.token";
      description = ''
        File with the bearer token that clients must send: 32 to 128 hexadecimal digits (0-9 and a-f), for example the output
        of {command}`openssl rand -hex 32`. It should be readable only by root. null for no token.
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
      description = "Host names and addresses of the endpoint. Requests with another Host header are refused.";
    };

    innerPort = mkOption {
      type = checked.port;
      default = policy.ports.mcpInner;
      description = "Port on 127.0.0.1 of the gateway, behind the reverse proxy.";
    };

    fromHost = mkOption {
      type = types.bool;
      internal = true;
      default = false;
      description = "Whether the host provides certificate, key, token and hosts as credentials at each start.";
    };
  };
}
