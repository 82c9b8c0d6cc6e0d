# The Debian guest's systemd units, links, and files to remove.
{
  share,
  allowedOrigins,
  servers,
  serversFiles,
  proxy,
}:
let
  policy = import ../policy;
  paths = import ./paths.nix;
  inherit (policy)
    agentMcp
    clock
    egress
    mcpReverseProxy
    network
    timeZone
    workspace
    ;
  mount = workspace.shares.${share};

  # Units that do not wait for sysinit.target. Without default dependencies, they must conflict with shutdown.target themselves.
  early = {
    DefaultDependencies = false;
    Conflicts = [ "shutdown.target" ];
    Before = [ "shutdown.target" ];
  };

  # For what a session or a server uses.
  beforeSessions.Before = early.Before ++ [
    policy.sshd.unit
    agentMcp.unit
  ];

  kept = mount: {
    Unit = {
      Description = mount.Where;
      DefaultDependencies = false;
    };
    Mount = mount;
  };

  claim.${workspace.claimUnit} = {
    Unit = early // {
      Description = "Change the owner of the workspace's files";
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
          clock.unit
          egress.unit
          policy.sshd.unit
          agentMcp.unit
          mcpReverseProxy.unit
          timeZone.unit
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
          # Not executed if the command before it fails, so a guest without its firewall has no network.
          "/usr/bin/busybox ifconfig ${network.interface} ${network.address} netmask ${network.netmask} up"
          "/usr/bin/busybox sh -c 'echo \"${network.consoleMark}\" >/dev/console'"
        ];
      };
    };

    "agent-vm-lock.service" = {
      Unit = early // {
        Description = "Lock module loading";
        # The network unit loads the last modules.
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
      Unit = early // egress.unitSection // beforeSessions;
      Service = egress.service { exec = "/bin/sh ${paths.egressScript}"; };
    };

    ${timeZone.unit} = {
      Unit = early // timeZone.unitSection // beforeSessions;
      Service = timeZone.service { exec = "/bin/sh ${paths.timeZoneScript}"; };
    };

    ${clock.unit} = {
      Unit =
        early
        // clock.unitSection
        // {
          # As for the reverse proxy below.
          After = [ policy.sshd.unit ];
        };
      Service = clock.service { exec = "/bin/bash ${paths.clockScript}"; };
    };

    # Started on demand: only `systemctl status` by the agent's user needs the bus.
    "dbus.socket" = {
      Unit = early // {
        Description = "D-Bus System Message Bus Socket";
      };
      Socket.ListenStream = "/run/dbus/system_bus_socket";
    };

    # init mounts these, and systemd-shutdown unmounts them last. Without this, shutdown would try to stop the mount units
    # while they are in use, and be delayed.
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

    # init mounts this too. If that failed, this unit tries again and reports the reason.
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
          agentMcp = "${paths.programs}/agent-mcp";
          mcpProxy = if proxy == "mcp-proxy" then "/usr/local/bin/mcp-proxy" else null;
          codemcp = "/usr/local/bin/codemcp";
        };
        path = paths.servicePath;
        origins = allowedOrigins;
        serversFiles = serversFiles ++ [ agentMcp.serversFile ];
        named = servers;
      };
    };

    ${mcpReverseProxy.unit} = {
      Unit =
        early
        // mcpReverseProxy.unitSection
        // {
          # Starts after sshd, so that ssh answers sooner.
          After = [ policy.sshd.unit ];
        };
      Service = mcpReverseProxy.service {
        exe = {
          agentMcp = "${paths.programs}/agent-mcp";
          nginx = "/usr/sbin/nginx";
        };
        origins = allowedOrigins;
      };
    };
  };

  links = {
    "/etc/localtime" = timeZone.localtime;
    "/etc/machine-id" = paths.machineId;
    "/etc/systemd/system/default.target" = "agent-vm.target";
    "/etc/timezone" = timeZone.timezone;
    "/etc/systemd/system/ctrl-alt-del.target" = "${debian}/poweroff.target";
  };

  # Glob patterns of files to remove before the files and links above are created.
  remove = [
    # Debian's enabled units and generators, which the guest does not need.
    "/etc/systemd/system/*.wants"
    "/etc/systemd/system/*.requires"
    "/etc/systemd/system/dbus-org.freedesktop.*"
    "/usr/lib/systemd/system/*.wants"
    "/usr/lib/systemd/system-generators/*"
    "/usr/lib/systemd/system-environment-generators/*"
    # The host provides these.
    "/etc/hostname"
    "/etc/resolv.conf"
    # Of the host that built the image.
    "/etc/apt/sources.list"
    "/etc/apt/sources.list.d/*"
    "/etc/ssh/ssh_host_*"
    "/etc/ssh/sshd_config.d"
    # agent-mcp generates the whole configuration of nginx.
    "/etc/nginx"
    # The machine's disk is mounted on /var.
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
