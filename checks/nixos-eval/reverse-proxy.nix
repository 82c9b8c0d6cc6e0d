# services.agent-mcp.gate
{
  lib,
  policy,
  wrong,
  mentions,
  service,
  unitOf,
  ...
}:
let
  # systemd quotes arguments in this text.
  spaced = builtins.replaceStrings [ "\"" ] [ "" ];
in
{
  testReverseProxyIsOffByDefault = {
    expr =
      let
        config = service { };
      in
      [
        (config.systemd.services ? agent-mcp-gate)
        (lib.hasInfix "--host=127.0.0.1 --port=8000" (spaced (unitOf config).ExecStart))
        config.warnings
        (lib.any (lib.hasInfix "services.agent-mcp.gate.enable = true;")
          (service { host = "0.0.0.0"; }).warnings
        )
      ];
    expected = [
      false
      true
      [ ]
      true
    ];
  };
  testReverseProxyIsInFrontOfTheServers = {
    expr =
      let
        config = service {
          host = "0.0.0.0";
          gate = {
            enable = true;
            certificateFile = "/run/secrets/mcp.pem";
            certificateKeyFile = "/run/secrets/mcp.key";
            tokenFile = "/run/secrets/token";
            hosts = [ "agent.example.org" ];
          };
        };
        gate = config.systemd.services.agent-mcp-gate.serviceConfig;
      in
      [
        (wrong config)
        config.warnings
        (lib.hasInfix "--host=127.0.0.1 --port=8001" (spaced (unitOf config).ExecStart))
        (lib.hasInfix "--listen=0.0.0.0:8000 --inner-port=8001" (spaced gate.ExecStart))
        (builtins.tail gate.LoadCredential)
        gate.User
        (lib.filterAttrs (key: value: gate.${key} or null != value) policy.mcpReverseProxy.hardening)
      ];
    expected = [
      [ ]
      [ ]
      true
      true
      [
        "agent-vm.mcp-cert:/run/secrets/mcp.pem"
        "agent-vm.mcp-key:/run/secrets/mcp.key"
        "agent-vm.mcp-token:/run/secrets/token"
      ]
      "agent-gate"
      { }
    ];
  };
  testMissingTokenOrTlsIsAWarning = {
    expr =
      map
        (
          gate:
          (service {
            gate = {
              enable = true;
            }
            // gate;
          }).warnings != [ ]
        )
        [
          { }
          { tokenFile = "/t"; }
          {
            certificateFile = "/c";
            certificateKeyFile = "/k";
          }
        ];
    expected = [
      true
      true
      true
    ];
  };
  testOnlyTheReverseProxyListensBelow1024 = {
    expr =
      let
        gate =
          port:
          (service {
            inherit port;
            gate.enable = true;
          }).systemd.services.agent-mcp-gate.serviceConfig.CapabilityBoundingSet;
      in
      [
        (mentions [ "services.agent-mcp.gate.enable" ] (
          wrong (service {
            port = 443;
          })
        ))
        (gate 443)
        (gate 8000)
      ];
    expected = [
      true
      [ "CAP_NET_BIND_SERVICE" ]
      ""
    ];
  };
  testInconsistentReverseProxyIsRefused = {
    expr = [
      (mentions [ "gate.certificateKeyFile" ] (
        wrong (service {
          gate.enable = true;
          gate.certificateFile = "/c";
        })
      ))
      (mentions [ "gate.innerPort" ] (
        wrong (service {
          gate.enable = true;
          port = policy.ports.mcpInner;
        })
      ))
      (mentions [ "agent-gate" ] (
        wrong (service {
          user = "agent-gate";
        })
      ))
    ];
    expected = [
      true
      true
      true
    ];
  };
}
