# services.agent-mcp
{
  lib,
  policy,
  wrong,
  mentions,
  withModules,
  service,
  unitOf,
  ...
}:
{
  testServiceIsOffByDefault = {
    expr = (withModules { }).systemd.services ? agent-mcp;
    expected = false;
  };
  testServiceNeedsNoMachine = {
    expr = wrong (service { });
    expected = [ ];
  };
  testServiceIsConfined = {
    expr = lib.filterAttrs (
      key: value: (unitOf (service { })).${key} or null != value
    ) policy.agentMcp.hardening;
    expected = { };
  };
  testHardeningSettingsAreOverriddenOneByOne = {
    expr =
      let
        unit = unitOf (service {
          hardening.settings = {
            PrivateDevices = false;
            MemoryDenyWriteExecute = true;
            KeyringMode = null;
            ReadWritePaths = [ "/srv/data" ];
          };
        });
      in
      [
        unit.PrivateDevices
        unit.MemoryDenyWriteExecute
        (unit ? KeyringMode)
        unit.NoNewPrivileges
        unit.ReadWritePaths
      ];
    expected = [
      false
      true
      false
      true
      # Added to the service's own paths, not instead of them.
      [
        "/workspace"
        "/var/lib/agent"
        "/srv/data"
      ]
    ];
  };
  testSlowFailuresReachTheStartLimit = {
    expr =
      map
        (
          startTimeout:
          let
            unit = (service { healthCheck = { inherit startTimeout; }; }).systemd.services.agent-mcp;
            inherit (unit.serviceConfig) TimeoutStartSec RestartSec TimeoutStopSec;
            inherit (unit.unitConfig) StartLimitBurst StartLimitIntervalSec;
          in
          StartLimitIntervalSec > StartLimitBurst * (TimeoutStartSec + RestartSec + TimeoutStopSec)
        )
        [
          180
          900
        ];
    expected = [
      true
      true
    ];
  };
  testOnlyServersWithChromiumRelaxTheSandbox = {
    expr =
      map
        (
          settings:
          let
            unit = unitOf (service settings);
          in
          [
            (unit.ProcSubset or null)
            (lib.elem "capset" unit.SystemCallFilter)
          ]
        )
        [
          { }
          { servers.filesystem.enable = true; }
          { servers.browser.enable = true; }
          { servers.playwright.enable = true; }
          {
            servers.browser.enable = true;
            hardening.settings.ProcSubset = "pid";
          }
        ];
    expected = [
      [
        "pid"
        false
      ]
      [
        "pid"
        false
      ]
      [
        null
        true
      ]
      [
        null
        true
      ]
      [
        "pid"
        true
      ]
    ];
  };
  testResourcesAndEnvironmentReachTheUnit = {
    expr =
      let
        config = service {
          resources = {
            memoryMax = "2G";
            cpuQuota = "150%";
            tasksMax = 64;
          };
          environmentFile = "/run/secrets/agent";
          extraEnvironment.A = "b c";
        };
        unit = unitOf config;
      in
      [
        unit.MemoryMax
        unit.CPUQuota
        unit.TasksMax
        unit.EnvironmentFile
        config.systemd.services.agent-mcp.environment.A
      ];
    expected = [
      "2G"
      "150%"
      64
      [ "/run/secrets/agent" ]
      "b c"
    ];
  };
  testUserMayBeDeclaredElsewhere = {
    expr =
      let
        config = withModules {
          services.agent-mcp.enable = true;
          users.users.agent = {
            isNormalUser = true;
            home = "/home/agent";
            description = "A person";
          };
        };
      in
      [
        (wrong config)
        config.users.users.agent.home
        (lib.last (unitOf config).ReadWritePaths)
      ];
    expected = [
      [ ]
      "/home/agent"
      "/home/agent"
    ];
  };
  testAPersonsGroupIsKept = {
    expr =
      let
        config = withModules {
          services.agent-mcp.enable = true;
          services.agent-mcp.user = "alice";
          users.users.alice.isNormalUser = true;
        };
      in
      [
        (wrong config)
        config.users.users.alice.group
        (service { }).users.users.agent.group
      ];
    expected = [
      [ ]
      "users"
      "agent"
    ];
  };
  testPercentSignsInTheEnvironmentAreEscaped = {
    expr =
      (service { extraEnvironment.FORMAT = "%F \"%T\""; }).systemd.services.agent-mcp.environment.FORMAT;
    expected = "%%F \"%%T\"";
  };
  testDirectoriesHaveNoSpecialCharacters = {
    expr =
      map
        (
          workspaceDir:
          (builtins.tryEval (service { inherit workspaceDir; }).services.agent-mcp.workspaceDir).success
        )
        [
          "/srv/100%h"
          "/srv/a:b"
          "/srv/a-b"
        ];
    expected = [
      false
      false
      true
    ];
  };
  testShellsWithoutStdenvAreAccepted = {
    expr =
      let
        plain = derivation {
          name = "shell";
          system = "x86_64-linux";
          builder = "/bin/sh";
          VARIABLE = "1";
        };
      in
      lib.hasInfix "in-dev-shell" (
        lib.head (
          lib.toList
            (unitOf (service {
              shell = plain // {
                inherit (plain) drvAttrs;
              };
            })).ExecStart
        )
      );
    expected = true;
  };
  testUnknownDefaultServerIsRefused = {
    expr = mentions [ "defaultServer" "\"x\"" "services.agent-mcp.servers.\"x\"" ] (
      wrong (service {
        defaultServer = "x";
      })
    );
    expected = true;
  };
  testServerNamesAreUrlSegments = {
    expr = mentions [ "a b" ] (
      wrong (service {
        servers."a b" = { };
      })
    );
    expected = true;
  };
  testRootIsRefused = {
    expr = mentions [ "services.agent-mcp.user" ] (
      wrong (service {
        user = "root";
      })
    );
    expected = true;
  };
  testFirewallIsClosedByDefault = {
    expr =
      map
        (
          open:
          (service {
            openFirewall = open;
            host = "0.0.0.0";
          }).networking.firewall.allowedTCPPorts
        )
        [
          false
          true
        ];
    expected = [
      [ ]
      [ policy.ports.mcp ]
    ];
  };
  testPredefinedServersGetTheWorkspaceAndTheHomeOfTheService = {
    expr =
      let
        inherit
          ((service {
            workspaceDir = "/elsewhere";
            user = "other";
            servers = lib.genAttrs [ "filesystem" "git" "memory" "playwright" ] (_: {
              enable = true;
            });
          }).services.agent-mcp
          )
          servers
          ;
      in
      [
        servers.filesystem.args
        servers.git.args
        servers.memory.environment.MEMORY_FILE_PATH
        (lib.elem "--output-dir=/var/lib/other/.cache/playwright-mcp" servers.playwright.args)
      ];
    expected = [
      [ "/elsewhere" ]
      [ "--repository=/elsewhere" ]
      "/var/lib/other/.mcp-memory.jsonl"
      true
    ];
  };
  testPredefinedServersAreOffByDefault = {
    expr =
      let
        served =
          settings: builtins.attrNames (service { servers = settings; }).services.agent-mcp.serverPrograms;
      in
      [
        (served { })
        (served (
          lib.genAttrs policy.agentMcp.knownServers.nixos (_: {
            enable = true;
          })
        ))
        # With a command of the configuration's own.
        (served { git.command = "/own/git"; })
        (served {
          git = {
            command = "/own/git";
            enable = false;
          };
        })
      ];
    expected = [
      [ "codemcp" ]
      [
        "browser"
        "codemcp"
        "fetch"
        "filesystem"
        "git"
        "memory"
        "nix-language"
        "nixos"
        "playwright"
        "rescript-language"
        "time"
      ]
      [
        "codemcp"
        "git"
      ]
      [ "codemcp" ]
    ];
  };
}
