# services.agent-vms
{
  lib,
  eval,
  wrong,
  mentions,
  bare,
  ...
}:
let
  host =
    instances:
    eval [
      bare
      ../../modules
      {
        services.agent-vms = {
          enable = true;
          inherit instances;
        };
      }
    ];
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
    expr = mentions [ "{a,b}.port" "8000" ] (
      wrong (host {
        a.repository = "/a";
        a.port = 8000;
        b.repository = "/b";
        b.port = 8000;
      })
    );
    expected = true;
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
        config = eval [
          bare
          ../../modules
          {
            services.agent-vms = {
              enable = true;
              instances.app = {
                repository = "/home/alice/app";
                user = "alice";
              };
            };
            users.users.alice.isNormalUser = true;
          }
        ];
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
  # Of homes a machine's unit sees the repository alone, whoever it runs as.
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
