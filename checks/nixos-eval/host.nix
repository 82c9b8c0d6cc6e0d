# services.agent-vms
{
  lib,
  pkgs,
  wrong,
  mentions,
  withModules,
  policy,
  nixpkgs,
  ...
}:
let
  host =
    instances:
    withModules {
      services.agent-vms = {
        enable = true;
        inherit instances;
      };
    };
in
{
  testHostHasAUnitAndAnAccountForEach = {
    expr =
      let
        config = host {
          app.repository = "/srv/app";
          off = {
            enable = false;
            repository = "/srv/app";
          };
        };
      in
      [
        (wrong config)
        (config.systemd.services ? agent-vm-app)
        (config.systemd.services ? agent-vm-off)
        config.users.users.agent-vm-app.isSystemUser
      ];
    expected = [
      [ ]
      true
      false
      true
    ];
  };
  testHostStopsUnusedMachines = {
    expr =
      let
        config = host {
          app.repository = "/srv/app";
          always = {
            repository = "/srv/app";
            branch = "always";
            idleTimeout = null;
            ttl = "8h";
          };
        };
        settings = name: builtins.fromJSON config.environment.etc."agent-vms/${name}.json".text;
        unit = config.systemd.services.agent-vm-app.serviceConfig;
      in
      [
        (settings "app").idle_timeout
        ((settings "app") ? ttl)
        ((settings "always") ? idle_timeout)
        (settings "always").ttl
        unit.RestartPreventExitStatus
        unit.SuccessExitStatus
      ];
    expected = [
      "2h"
      false
      false
      "8h"
      75
      [
        143
        75
      ]
    ];
  };
  testHostRefusesSharedPorts = {
    expr =
      let
        refused =
          settings: words:
          mentions words (
            wrong (host {
              a = {
                repository = "/a";
                port = 8000;
              }
              // settings.a or { };
              b = {
                repository = "/b";
              }
              // settings.b or { };
            })
          );
      in
      [
        (refused { b.port = 8000; } [
          "instances.a.port and services.agent-vms.instances.b.port"
          "8000"
        ])
        (refused { b.sshPort = 8000; } [ "instances.b.sshPort" ])
        (refused { a.sshPort = 8000; } [ "instances.a.sshPort" ])
        (refused {
          b.port = 8000;
          b.host = "0.0.0.0";
        } [ "instances.b.port" ])
        # Controls.
        (refused { b.port = 8001; } [ "" ])
        (refused {
          b.port = 8000;
          b.host = "127.0.0.2";
        } [ "" ])
      ];
    expected = [
      true
      true
      true
      true
      false
      false
    ];
  };
  testHostRefusesSharedAccounts = {
    expr =
      map
        (
          user:
          mentions [ "{a,b}.user are all one" ] (
            wrong (host {
              a.repository = "/a";
              a.user = "one";
              b.repository = "/b";
              b.user = user;
            })
          )
        )
        [
          "one"
          "another"
        ];
    expected = [
      true
      false
    ];
  };
  testHostRefusesThePortOfTheService = {
    expr =
      map
        (
          port:
          mentions [ "services.agent-mcp.port" "instances.a.port" ] (
            wrong (withModules {
              services.agent-mcp.enable = true;
              services.agent-vms.enable = true;
              services.agent-vms.instances.a = {
                repository = "/a";
                inherit port;
              };
            })
          )
        )
        [
          policy.ports.mcp
          (policy.ports.mcp + 1)
        ];
    expected = [
      true
      false
    ];
  };
  testHostTakesNamesOfNixpkgs = {
    expr =
      (host {
        app = {
          repository = "/a";
          packages = [
            "nodejs_22"
            "python3Packages.numpy"
          ];
        };
      }).services.agent-vms.instances.app.packages;
    expected = [
      "nodejs_22"
      "python3Packages.numpy"
    ];
  };
  testHostWarnsOfAnOpenGate = {
    expr =
      map
        (
          settings:
          (host {
            app = {
              repository = "/a";
            }
            // settings;
          }).warnings != [ ]
        )
        [
          { }
          { tls = false; }
          { auth = false; }
        ];
    expected = [
      false
      true
      true
    ];
  };
  testAccountMayBeSomebodysOwn = {
    expr =
      let
        config = withModules {
          services.agent-vms = {
            enable = true;
            instances.app = {
              repository = "/home/alice/app";
              user = "alice";
            };
          };
          users.users.alice.isNormalUser = true;
        };
      in
      [
        (wrong config)
        config.systemd.services.agent-vm-app.serviceConfig.Group
        (config.users.groups ? alice)
      ];
    expected = [
      [ ]
      "users"
      false
    ];
  };
  testMachinesComeBackAndGiveUp = {
    expr =
      let
        unit = (host { a.repository = "/a"; }).systemd.services.agent-vm-a;
        inherit (unit.serviceConfig) TimeoutStartSec RestartSec Restart;
        inherit (unit.unitConfig) StartLimitBurst StartLimitIntervalSec;
      in
      [
        Restart
        (StartLimitIntervalSec > StartLimitBurst * (TimeoutStartSec + RestartSec))
      ];
    expected = [
      "always"
      true
    ];
  };
  testRepositoriesHaveNoPatternsInTheirNames = {
    expr =
      map
        (
          repository:
          (builtins.tryEval (host { a = { inherit repository; }; }).services.agent-vms.instances.a.repository)
          .success
        )
        [
          "/srv/app-1_x.git"
          "/srv/100%:a,b"
          "/srv/{a,b}"
          "/srv/a[b"
          "/srv/a]b"
          "/srv/a*"
          "/srv/a?"
          "/srv/a^"
          "/srv/a\"b"
          "/srv/a\\b"
          "/srv/a b"
        ];
    expected = [
      true
      true
    ]
    ++ lib.genList (_: false) 9;
  };
  # The unit's commands are agent-vm's alone.
  testUnitRunsAgentVm = {
    expr =
      let
        unit =
          (host {
            a = {
              repository = "/srv/100%";
              branch = "$x";
            };
          }).systemd.services.agent-vm-a;
        inherit (unit.serviceConfig) ExecStartPre ExecStart;
      in
      [
        (map lib.isString [
          ExecStartPre
          ExecStart
        ])
        (lib.hasInfix ''"apply" "--create" "--source" "/srv/100%%" "--config" "/etc/agent-vms/a.json"'' ExecStartPre)
        (lib.hasInfix ''"start" "--foreground" "--source" "/srv/100%%" "--branch=$$x"'' ExecStart)
        (lib.hasInfix "--guest-package" ExecStart)
        (unit.serviceConfig ? ExecStop)
        unit.serviceConfig.Type
        unit.serviceConfig.NotifyAccess
      ];
    expected = [
      [
        true
        true
      ]
      true
      true
      false
      false
      "notify"
      "main"
    ];
  };
  # agent-vm regards a machine as undeclared when its file is missing. A disabled machine keeps its file.
  testEveryDeclarationIsAFile = {
    expr =
      let
        config = host {
          a = {
            repository = "/a";
            branch = "next";
            port = 8001;
            egress.allow = [ "@npm" ];
            resources = {
              memory = 2048;
              cpuQuota = "150%";
              tasksMax = 32;
              diskBandwidth = 104857600;
              workspaceSize = 10240;
            };
          };
          off = {
            enable = false;
            repository = "/a";
            resources.keepFree = 0;
          };
        };
        declared = builtins.fromJSON config.environment.etc."agent-vms/a.json".text;
      in
      [
        (lib.getAttrs [ "branch" "port" "allow" "memory" "egress" ] declared)
        (lib.getAttrs [ "cpu_quota" "pids" "disk_bandwidth" "workspace_size" ] declared)
        # agent-vm leaves less free on a small file system by default, but not if a value is declared.
        (declared ? ssh_port || declared ? disk_iops || declared ? keep_free)
        (builtins.fromJSON config.environment.etc."agent-vms/off.json".text).keep_free
        (config.environment.etc ? "agent-vms/off.json")
      ];
    expected = [
      {
        branch = "next";
        port = 8001;
        allow = [ "@npm" ];
        memory = 2048;
        egress = "allowlist";
      }
      {
        cpu_quota = 150;
        pids = 64;
        disk_bandwidth = 104857600;
        workspace_size = 10240;
      }
      false
      0
      true
    ];
  };
  # Guests of `config` are built with the host, and agent-vm gets them.
  testGuestsAreOfTheHostsClosure = {
    expr =
      let
        commandsOf =
          settings:
          let
            config = host {
              a = {
                repository = "/a";
              }
              // settings;
            };
          in
          import ../../modules/host/commands.nix {
            inherit config lib;
            # With a mark, because Nix compares package sets package by package, and some packages of nixpkgs are errors.
            pkgs = pkgs // {
              ofThisHost = true;
            };
            modulesPath = "${nixpkgs}/nixos/modules";
          } "a" config.services.agent-vms.instances.a;
        isGiven = settings: lib.elem "--guest-package" (commandsOf settings).start;
        guest = settings: (commandsOf settings).guest.config;
        package = pkgs.runCommand "agent-vm-guest" { meta.mainProgram = "run-agent-vm"; } "";
        one.config.environment.variables.A = "1";
        several = {
          servers = [ "nixos" ];
          packages = [ "git" ];
          config = [
            one.config
            (
              { lib, ... }:
              {
                environment.variables.B = lib.mkDefault "2";
              }
            )
          ];
        };
        # Of two definitions, as two files of a configuration have them.
        merged = lib.mkMerge [
          one.config
          { agentVm.share = "9p"; }
        ];
        variables = settings: lib.getAttrs [ "A" "B" ] (guest settings).environment.variables;
      in
      [
        (map isGiven [
          { }
          { config = { }; }
          { guestPackage = package; }
        ])
        (lib.hasSuffix ''"--guest-package" "${package}"''
          (host {
            a = {
              repository = "/a";
              guestPackage = package;
            };
          }).systemd.services.agent-vm-a.serviceConfig.ExecStart
        )
        (wrong (guest {
          config = { };
        }))
        (guest one).environment.variables.A
        (variables several)
        (guest several).services.agent-mcp.servers.nixos.enable
        (lib.elem pkgs.git (guest several).agentVm.packages)
        (guest { config = merged; }).agentVm.share
        # This host's packages.
        ((guest { config = { }; }).nixpkgs.pkgs.ofThisHost or false)
      ];
    expected = [
      [
        false
        true
        true
      ]
      true
      [ ]
      "1"
      {
        A = "1";
        B = "2";
      }
      true
      true
      "9p"
      true
    ];
  };
  # A machine's unit sees no part of home directories but the repository, with any account.
  testHomesAreHidden = {
    expr =
      let
        unit = (host { a.repository = "/home/alice/100%:a"; }).systemd.services.agent-vm-a;
      in
      [
        unit.serviceConfig.ProtectHome
        unit.serviceConfig.BindReadOnlyPaths
        unit.unitConfig.RequiresMountsFor
      ];
    expected = [
      "tmpfs"
      [ "-/home/alice/100%%\\:a" ]
      [ "/home/alice/100%%:a" ]
    ];
  };
  # Each machine's metrics are read by its own account; Prometheus gets the rules only where it runs.
  testMonitoringWritesMetricsAndGivesRules = {
    expr =
      let
        of =
          settings:
          withModules (
            lib.recursiveUpdate {
              services.agent-vms = {
                enable = true;
                instances.a.repository = "/a";
              };
            } settings
          );
        off = of { };
        alone = of { services.agent-vms.monitoring.enable = true; };
        whole = of {
          services.agent-vms.monitoring.enable = true;
          services.prometheus.enable = true;
          # The packages here have no promtool.
          services.prometheus.checkConfig = false;
          services.prometheus.exporters.node.enable = true;
        };
        unit = alone.systemd.services.agent-vm-a-metrics.serviceConfig;
        rules = builtins.fromJSON (lib.head whole.services.prometheus.rules);
      in
      [
        (off.systemd.services ? agent-vm-a-metrics)
        (off.systemd.timers ? agent-vm-a-metrics)
        (wrong alone)
        unit.User
        (
          lib.hasInfix "--textfile" unit.ExecStart
          && lib.hasInfix "/run/agent-vms-metrics/a/agent-vm.prom" unit.ExecStart
        )
        unit.RuntimeDirectory
        alone.systemd.timers.agent-vm-a-metrics.timerConfig.OnUnitInactiveSec
        alone.services.prometheus.rules
        (wrong whole)
        whole.services.prometheus.exporters.node.extraFlags
        (lib.length (lib.head rules.groups).rules > 10)
        (builtins.pathExists alone.services.agent-vms.monitoring.dashboard)
      ];
    expected = [
      false
      false
      [ ]
      "agent-vm-a"
      true
      "agent-vms-metrics/a"
      15
      [ ]
      [ ]
      [ "--collector.textfile.directory=/run/agent-vms-metrics/a" ]
      true
      true
    ];
  };
  # As agent-vm limits it elsewhere.
  testMemoryIsLimited = {
    expr =
      map
        (
          resources:
          (host {
            a.repository = "/a";
            a.resources = resources;
          }).systemd.services.agent-vm-a.serviceConfig.MemoryMax or null
        )
        [
          { }
          { memory = 8192; }
          { memoryMax = "5G"; }
          { memoryMax = null; }
        ];
    expected = [
      "6144M"
      "10240M"
      "5G"
      null
    ];
  };
  testHostRefusesMemoryThatCannotSuffice = {
    expr =
      map
        (
          limit:
          mentions [ "a.resources.memoryMax" "5120M" ] (
            wrong (host {
              a.repository = "/a";
              a.resources.memoryMax = limit;
            })
          )
        )
        [
          "4G"
          "4194304K"
          "4294967296"
          "1T"
        ];
    expected = [
      true
      true
      true
      false
    ];
  };
}
