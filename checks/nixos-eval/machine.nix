# The agent machine.
{
  lib,
  policy,
  eval,
  wrong,
  mentions,
  pkgs,
  ...
}:
let
  machine =
    settings:
    eval [
      ../../modules/vm-config.nix
      settings
    ];
  plain = machine { };
  variant = plain.virtualisation.vmVariant;

  # Tests qemu-vm.nix with the options of two releases, independent of the nixpkgs that evaluates this.
  shape =
    share: qemu: more:
    (import ../../modules/vm-config/qemu-vm.nix {
      inherit lib;
      config = {
        inherit (plain) agentVm services;
      };
      options.virtualisation = {
        sharedDirectories.type.getSubOptions = _: share;
        inherit qemu;
      }
      // more;
    }).config.virtualisation;
  # An option that a later release removed.
  removed =
    (lib.evalModules {
      modules = [
        (lib.mkRemovedOptionModule [ "virtualisation" "msize" ] "")
        { options.assertions = lib.mkOption { type = lib.types.anything; }; }
      ];
    }).options.virtualisation;
  older = shape { securityModel = { }; } { enableSharedMemory = { }; } { msize = { }; };
  newer = shape { writable = { }; } { enableSharedMemory = { }; } removed;
  oldest = shape { securityModel = { }; } { } { };
in
{
  testMachineHasNoErrorsAndWarnings = {
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
  testAgentsArePackages = {
    expr =
      let
        # Its packages alone: others of a system need all of nixpkgs.
        packages =
          agents:
          (import ../../modules/vm-config/agents.nix {
            inherit lib pkgs;
            config.agentVm = { inherit agents; };
            options.nixpkgs.pkgs.isDefined = true;
          }).config.environment.systemPackages;
        names = [
          "claude"
          "codex"
        ];
      in
      [
        (wrong (machine {
          agentVm.agents = names;
        }))
        (
          packages names == [
            pkgs.claude-code
            pkgs.codex
          ]
        )
        (packages [ ])
      ];
    expected = [
      [ ]
      true
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
        "AllowUsers"
        "AuthorizedKeysFile"
        "HostKey"
        "ListenAddress"
        "Port"
        "UseDNS"
      ]
    );
    expected = { };
  };
  testSshForwardsToBothLoopbackAddresses = {
    expr =
      let
        inherit (plain.services.openssh) listenAddresses settings;
      in
      [
        settings.AddressFamily
        (map (listen: listen.addr) listenAddresses)
        plain.networking.hosts."::1"
        # NixOS itself adds the name.
        (lib.elem "localhost" ((machine { networking.enableIPv6 = true; }).networking.hosts."::1"))
      ];
    expected = [
      "any"
      [ policy.sshd.settings.ListenAddress ]
      [ "localhost" ]
      false
    ];
  };
  testMachineServesSftp = {
    expr = [
      plain.services.openssh.allowSFTP
      plain.services.openssh.sftpServerExecutable
    ];
    expected = [
      true
      policy.sshd.sftpServer
    ];
  };
  testAgentCannotBecomeRoot = {
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
  testOnlyTheReverseProxyListensOnTheNetwork = {
    expr =
      let
        gate = plain.systemd.services.agent-mcp-gate.serviceConfig;
        exec =
          unit:
          builtins.replaceStrings [ "\"" ] [ "" ] plain.systemd.services.${unit}.serviceConfig.ExecStart;
      in
      [
        (lib.hasInfix "--host=127.0.0.1 --port=8001" (exec "agent-mcp"))
        (lib.hasInfix "--listen=0.0.0.0:8000 --inner-port=8001" (exec "agent-mcp-gate"))
        (gate.ImportCredential == policy.mcpReverseProxy.imported)
        (gate ? LoadCredential)
        (plain.users.users.agent-gate.isSystemUser && plain.users.users.agent-gate.group == "agent-gate")
      ];
    expected = [
      true
      true
      true
      false
      true
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
  testSlowServicesAreDisabled = {
    expr = [
      (plain.systemd.services ? resolvconf)
      (plain.systemd.services ? systemd-oomd || plain.systemd.oomd.enable)
      plain.systemd.services.mount-pstore.enable
      plain.systemd.services.systemd-pstore.enable
      plain.environment.etc."resolv.conf".text
      plain.systemd.generators.systemd-ssh-generator
      (lib.elem "systemd.ssh_auto=no" plain.boot.kernelParams)
    ];
    expected = [
      false
      false
      false
      false
      "# The egress proxy on the host resolves names.\n"
      "/dev/null"
      true
    ];
  };
  testBootsBySystemd = {
    expr = plain.boot.initrd.systemd.enable;
    expected = true;
  };
  testGuestAgentHasAVirtioPort = {
    expr = [
      plain.services.qemuGuest.enable
      (lib.any (lib.hasInfix "name=org.qemu.guest_agent.0") older.qemu.options)
    ];
    expected = [
      true
      true
    ];
  };
  testOptionsOfAnOlderRelease = {
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
  testOptionsOfANewerRelease = {
    expr = [
      (removeAttrs newer.sharedDirectories.workspace [ "source" ])
      (removed ? msize)
      (newer ? msize)
      older.msize.content
    ];
    expected = [
      {
        target = "/workspace";
        writable = true;
      }
      # The option's placeholder still exists.
      true
      false
      512000
    ];
  };
}
