# Units of the Debian guest, the units of Debian that are kept, and the files that are removed.
{
  share,
  allowedOrigins,
  servers,
  serversFiles,
}:
let
  policy = import ../policy;
  paths = import ./paths.nix;
  inherit (policy)
    agentMcp
    egress
    mcpGate
    network
    workspace
    ;
  mount = workspace.shares.${share};

  # These start without waiting for sysinit.target, so they must say themselves that they stop at shutdown.
  early = {
    DefaultDependencies = false;
    Conflicts = [ "shutdown.target" ];
    Before = [ "shutdown.target" ];
  };

  kept = mount: {
    Unit = {
      Description = mount.Where;
      DefaultDependencies = false;
    };
    Mount = mount;
  };

  claim.${workspace.claimUnit} = {
    Unit = early // {
      Description = "Owner of the workspace's files";
      RequiresMountsFor = [ workspace.path ];
      Before = early.Before ++ [ agentMcp.unit ];
    };
    Service = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = workspace.claim {
        find = "/usr/bin/find";
        chown = "/usr/bin/chown";
      };
    };
  };

  debian = "/usr/lib/systemd/system";
in
{
  units = {
    # The default target. Not multi-user.target, which would load some fifty units that do nothing here.
    "agent-vm.target" = {
      Unit = {
        Description = "Agent machine";
        AllowIsolate = true;
        Wants = [
          "agent-vm-lock.service"
          "agent-vm-network.service"
          "dbus.socket"
          "systemd-journald.service"
          "workspace.mount"
          egress.unit
          policy.sshd.unit
          agentMcp.unit
          mcpGate.unit
        ]
        ++ builtins.attrNames (if mount.claim then claim else { });
      };
    };

    "agent-vm-network.service" = {
      Unit = early // {
        Description = "Firewall and network";
        Before = early.Before ++ [ "network.target" ];
        Wants = [ "network.target" ];
      };
      Service = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = [
          "/usr/sbin/nft -f /etc/nftables.conf"
          # Only if the above did not fail: a guest without its firewall stays without a network.
          "/usr/bin/busybox ifconfig ${network.interface} ${network.address} netmask ${network.netmask} up"
          "/usr/bin/busybox sh -c 'echo \"${network.consoleMark}\" >/dev/console'"
        ];
      };
    };

    "agent-vm-lock.service" = {
      Unit = early // {
        Description = "No more modules for the kernel";
        # The last unit that needs a root shell.
        After = [ "agent-vm-network.service" ];
        Before = early.Before ++ [ agentMcp.unit ];
      };
      Service = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "/usr/bin/busybox sh -c 'echo 1 >/proc/sys/kernel/modules_disabled'";
      };
    };

    ${egress.unit} = {
      Unit =
        early
        // egress.unitSection
        // {
          Before = early.Before ++ [
            policy.sshd.unit
            agentMcp.unit
          ];
        };
      Service = egress.service { exec = "/bin/sh ${paths.egressScript}"; };
    };

    # Started by who asks for it: `systemctl status` of the agent's user is all that needs the bus.
    "dbus.socket" = {
      Unit = early // {
        Description = "D-Bus System Message Bus Socket";
      };
      Socket.ListenStream = "/run/dbus/system_bus_socket";
    };

    # Mounted by init, and unmounted by the last step of a power-off, when they are unused. Units that
    # shutdown stops would fail earlier, and delay it.
    "home.mount" = kept {
      What = "/var/home";
      Where = "/home";
    };
    "var.mount" = kept {
      What = policy.qemu.diskDevice;
      Where = "/var";
    };
    "tmp.mount" = kept {
      What = "tmp";
      Where = "/tmp";
    };

    # Mounted by init too; this unit reports the reason if init failed.
    "workspace.mount" = kept {
      What = workspace.tag;
      Where = workspace.path;
      Type = mount.fsType;
      Options = builtins.concatStringsSep "," mount.options;
    };

  }
  // (if mount.claim then claim else { })
  // {
    ${policy.sshd.unit} = {
      Unit = early // {
        Description = "OpenSSH server";
      };
      Service = policy.sshd.service {
        exe = {
          sshd = "/usr/sbin/sshd";
          install = "/usr/bin/install";
        };
      };
    };

    ${agentMcp.unit} = {
      Unit = early // agentMcp.unitSection;
      Service = agentMcp.service {
        exe = {
          agentMcp = "/usr/bin/python3 -I ${paths.library}/agent_mcp";
          mcpProxy = "/usr/local/bin/mcp-proxy";
          mcpProxyPython = "/usr/bin/python3";
          codemcp = "/usr/local/bin/codemcp";
        };
        path = paths.servicePath;
        origins = allowedOrigins;
        serversFiles = serversFiles ++ [ agentMcp.serversFile ];
        named = servers;
      };
    };

    ${mcpGate.unit} = {
      Unit =
        early
        // mcpGate.unitSection
        // {
          # Starts after sshd, so that ssh answers sooner; mcp-proxy takes longer to start than both.
          After = [ policy.sshd.unit ];
        };
      Service = mcpGate.service {
        exe = {
          # -S skips site packages, so that nginx starts sooner.
          agentMcp = "/usr/bin/python3 -I -S ${paths.library}/agent_mcp";
          nginx = "/usr/sbin/nginx";
        };
        origins = allowedOrigins;
      };
    };
  };

  links = {
    "/etc/machine-id" = paths.machineId;
    "/etc/systemd/system/default.target" = "agent-vm.target";
    "/etc/systemd/system/ctrl-alt-del.target" = "${debian}/poweroff.target";
  };

  # Patterns in the root file system, removed before files and links above are put there.
  remove = [
    # Debian's choice of units and the programs that make more of them at each boot: a guest with one disk, one
    # network card and no seat has nothing for them to find.
    "/etc/systemd/system/*.wants"
    "/etc/systemd/system/*.requires"
    "/etc/systemd/system/dbus-org.freedesktop.*"
    "/usr/lib/systemd/system/*.wants"
    "/usr/lib/systemd/system-generators/*"
    "/usr/lib/systemd/system-environment-generators/*"
    # The host provides these.
    "/etc/hostname"
    "/etc/resolv.conf"
    "/etc/ssh/ssh_host_*"
    "/etc/ssh/sshd_config.d"
    # nginx gets its whole configuration when it starts.
    "/etc/nginx"
    # The disk is mounted over it.
    "/var/*"
    "/tmp/*"
    # Translations and manuals.
    "/usr/share/doc"
    "/usr/share/info"
    "/usr/share/lintian"
    "/usr/share/locale"
    "/usr/share/man"
    "/boot/*"
    "/usr/lib/udev/hwdb.d"
  ];
}
