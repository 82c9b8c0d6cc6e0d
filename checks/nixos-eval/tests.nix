# The modules on a real NixOS module system: a list of what is not as it must be, as lib.runTests gives it.
{
  nixpkgs,
  # File with words that may be names of packages, one a line.
  words,
}:
let
  lib = import "${nixpkgs}/lib";
  policy = import ../../lib/policy;
  pkgs = import ./pkgs.nix {
    inherit lib;
    words = lib.splitString "\n" (builtins.readFile words);
  };

  eval =
    modules:
    (import "${nixpkgs}/nixos/lib/eval-config.nix" {
      inherit lib;
      system = null;
      modules = modules ++ [
        {
          nixpkgs.pkgs = pkgs;
          system.stateVersion = lib.trivial.release;
          documentation.enable = false;
        }
      ];
    }).config;

  wrong =
    config:
    map (assertion: assertion.message) (lib.filter (assertion: !assertion.assertion) config.assertions);
  mentions =
    words: messages: lib.any (message: lib.all (word: lib.hasInfix word message) words) messages;

  bare = {
    boot.loader.grub.enable = false;
    fileSystems."/".device = "/dev/vda";
    fileSystems."/".fsType = "ext4";
  };
  service =
    settings:
    eval [
      bare
      ../../modules
      {
        services.agent-mcp = {
          enable = true;
        }
        // settings;
      }
    ];
  unitOf = config: config.systemd.services.agent-mcp.serviceConfig;
  machine =
    settings:
    eval [
      ../../modules/vm-config.nix
      settings
    ];
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

  plain = machine { };
  variant = plain.virtualisation.vmVariant;

  # qemu-vm.nix is read with the options of one release and of the next, whichever nixpkgs is here.
  shape =
    share: qemu:
    (import ../../modules/vm-config/qemu-vm.nix {
      inherit lib;
      config.agentVm = plain.agentVm;
      options.virtualisation = {
        sharedDirectories.type.getSubOptions = _: share;
        inherit qemu;
      };
    }).config.virtualisation;
  older = shape { securityModel = { }; } { enableSharedMemory = { }; };
  newer = shape { writable = { }; } { enableSharedMemory = { }; };
  oldest = shape { securityModel = { }; } { };
in
lib.runTests {
  testNothingIsOnByItself = {
    expr =
      (eval [
        bare
        ../../modules
      ]).systemd.services
        ? agent-mcp;
    expected = false;
  };
  testServiceStandsAlone = {
    expr = wrong (service { });
    expected = [ ];
  };
  testServiceIsConfined = {
    expr = lib.filterAttrs (
      key: value: (unitOf (service { })).${key} or null != value
    ) policy.agentMcp.hardening;
    expected = { };
  };
  testHardeningGivesWayOneByOne = {
    expr =
      let
        unit = unitOf (service {
          hardening.settings = {
            PrivateDevices = false;
            MemoryDenyWriteExecute = true;
            KeyringMode = null;
          };
        });
      in
      [
        unit.PrivateDevices
        unit.MemoryDenyWriteExecute
        (unit ? KeyringMode)
        unit.NoNewPrivileges
      ];
    expected = [
      false
      true
      false
      true
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
        config = eval [
          bare
          ../../modules
          {
            services.agent-mcp.enable = true;
            users.users.agent = {
              isNormalUser = true;
              home = "/home/agent";
              description = "Somebody";
            };
          }
        ];
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
  testDefaultServerMustBeThere = {
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
  testPortsAreClosedUnlessAsked = {
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

  testMachineIsWell = {
    expr = [
      (wrong plain)
      plain.warnings
      (wrong variant)
    ];
    expected = [
      [ ]
      [ ]
      [ ]
    ];
  };
  testMachineHasThePolicysSysctls = {
    expr = lib.filterAttrs (key: value: plain.boot.kernel.sysctl.${key} != value) policy.sysctl;
    expected = { };
  };
  testMachineHasThePolicysSshd = {
    expr = lib.filterAttrs (key: value: plain.services.openssh.settings.${key} != value) (
      removeAttrs policy.sshd.settings [
        "AddressFamily"
        "AllowUsers"
        "AuthorizedKeysFile"
        "HostKey"
        "Port"
        "UseDNS"
      ]
    );
    expected = { };
  };
  testMachineLeadsNowhereToRoot = {
    expr = [
      plain.security.sudo.enable
      plain.security.lockKernelModules
      plain.security.protectKernelImage
      plain.security.allowUserNamespaces
      plain.users.users.dev.extraGroups
      plain.services.openssh.authorizedKeysInHomedir
    ];
    expected = [
      false
      true
      true
      false
      policy.user.extraGroups
      false
    ];
  };
  testFirewallIsThePolicys = {
    expr = [
      plain.networking.nftables.ruleset
      plain.networking.firewall.enable
    ];
    expected = [
      policy.firewall.ruleset
      false
    ];
  };
  testSecondFirewallIsRefused = {
    expr = mentions [ "networking.firewall.enable" ] (
      wrong (machine {
        networking.firewall.enable = lib.mkForce true;
      })
    );
    expected = true;
  };
  testRunScriptForwardsOnLoopbackOnly = {
    expr = map (
      forward: "${forward.host.address}:${toString forward.host.port}-${toString forward.guest.port}"
    ) variant.virtualisation.forwardPorts;
    expected = [
      "127.0.0.1:2222-22"
      "127.0.0.1:8000-8000"
    ];
  };
  testRunScriptSharesTheWorkspaceOnly = {
    expr = [
      (builtins.attrNames variant.virtualisation.sharedDirectories)
      variant.virtualisation.mountHostNixStore
      variant.virtualisation.useNixStoreImage
      variant.virtualisation.restrictNetwork
    ];
    expected = [
      [ "workspace" ]
      false
      true
      true
    ];
  };
  testSizesAreTheDefaults = {
    expr = { inherit (variant.virtualisation) memorySize cores diskSize; };
    expected = {
      memorySize = 4096;
      cores = 4;
      diskSize = 20480;
    };
  };
  testRunnerEvaluates = {
    expr = lib.all lib.isDerivation [
      plain.system.build.agentVm
      plain.system.build.vm
      (machine { agentVm.share = "9p"; }).system.build.agentVm
    ];
    expected = true;
  };
  testOlderShape = {
    expr = [
      (removeAttrs older.sharedDirectories.workspace [ "source" ])
      older.qemu.enableSharedMemory
      (oldest.qemu ? enableSharedMemory)
    ];
    expected = [
      {
        securityModel = "mapped-xattr";
        target = "/workspace";
      }
      true
      false
    ];
  };
  testNewerShape = {
    expr = [
      (removeAttrs newer.sharedDirectories.workspace [ "source" ])
      (newer ? msize)
    ];
    expected = [
      {
        target = "/workspace";
        writable = true;
      }
      false
    ];
  };

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
  testHostRefusesMemoryThatCannotSuffice = {
    expr = mentions [ "a.resources.memoryMax" "5120M" ] (
      wrong (host {
        a.repository = "/a";
        a.resources.memoryMax = "4G";
      })
    );
    expected = true;
  };
}
