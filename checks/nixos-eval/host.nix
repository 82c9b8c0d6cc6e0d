# services.agent-vms
{
  lib,
  pkgs,
  wrong,
  mentions,
  withModules,
  policy,
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
  # Git by itself would follow what a repository says about itself; agent-vm does not.
  testScriptsAskAgentVmAboutTheRepository = {
    expr =
      let
        pkgs' = pkgs // {
          writeText = _: text: text;
          writeShellScript = _: text: text;
        };
        scripts = import ../../modules/host/scripts.nix {
          inherit lib;
          pkgs = pkgs';
          package = pkgs'.git;
        } "a" (host { a.repository = "/a"; }).services.agent-vms.instances.a;
        calls =
          word: builtins.match ".*[ (|]${word} .*" (lib.replaceStrings [ "\n" ] [ " " ] scripts.run) != null;
      in
      [
        (calls "jq")
        (calls "git")
        (lib.hasInfix ''list --source "$repository"'' scripts.run)
      ];
    expected = [
      true
      false
      true
    ];
  };
  # A machine's unit sees nothing of home directories but the repository, whichever account it runs as.
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
