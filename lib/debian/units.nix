# Units of the Debian guest, those of Debian's that are kept, and what is removed.
{ share, allowedOrigins }:
let
  policy = import ../policy;
  paths = import ./paths.nix;
  inherit (policy) agentMcp workspace;
  mount = workspace.shares.${share};

  # These start without waiting for sysinit.target, so they must say themselves that they stop at shutdown.
  early = {
    DefaultDependencies = false;
    Conflicts = [ "shutdown.target" ];
    Before = [ "shutdown.target" ];
  };

  debian = "/usr/lib/systemd/system";
  wants = target: from: units: builtins.listToAttrs (
    map (unit: {
      name = "/etc/systemd/system/${target}.wants/${unit}";
      value = "${from}/${unit}";
    }) units
  );
in
{
  units = {
    "nftables.service" = {
      Unit = early // {
        Description = "Firewall";
        Before = early.Before ++ [ "network-pre.target" ];
        Wants = [ "network-pre.target" ];
      };
      Service = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "/usr/sbin/nft -f /etc/nftables.conf";
      };
    };

    "agent-vm-network.service" = {
      Unit = early // {
        Description = "Network";
        # Requires: a guest without its firewall stays without a network.
        Requires = [ "nftables.service" ];
        After = [ "nftables.service" ];
        Before = early.Before ++ [ "network.target" ];
        Wants = [ "network.target" ];
      };
      Service = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "/usr/sbin/ip -batch ${paths.networkBatch}";
      };
    };

    "workspace.mount" = {
      Unit = early // {
        Description = "The branch's workspace";
        Before = early.Before ++ [ "umount.target" ];
        Conflicts = early.Conflicts ++ [ "umount.target" ];
      };
      Mount = {
        What = workspace.tag;
        Where = workspace.path;
        Type = mount.fsType;
        Options = builtins.concatStringsSep "," mount.options;
      };
    };

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
          codemcp = "/usr/local/bin/codemcp";
        };
        path = paths.servicePath;
        origins = allowedOrigins;
      };
    };
  };

  manager = {
    # Nothing here needs long to stop; a clean power-off is what stop waits for.
    DefaultTimeoutStopSec = "3s";
    ShowStatus = "error";
    # The console is for errors; the journal has the rest.
    LogTarget = "journal-or-kmsg";
    CtrlAltDelBurstAction = "poweroff-force";
  };

  links = {
    "/etc/machine-id" = paths.machineId;
    "/etc/systemd/system/default.target" = "${debian}/multi-user.target";
    "/etc/systemd/system/ctrl-alt-del.target" = "${debian}/poweroff.target";
  }
  // wants "sysinit.target" debian [
    "systemd-journald.service"
    "systemd-sysctl.service"
  ]
  // wants "sockets.target" debian [
    "dbus.socket"
    "systemd-journald.socket"
    "systemd-journald-dev-log.socket"
  ]
  // wants "local-fs.target" debian [ "tmp.mount" ]
  // wants "multi-user.target" "/etc/systemd/system" [
    "agent-mcp.service"
    "agent-vm-network.service"
    "nftables.service"
    "ssh.service"
    "workspace.mount"
  ];

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
    # The host's to give.
    "/etc/hostname"
    "/etc/resolv.conf"
    "/etc/ssh/ssh_host_*"
    "/etc/ssh/sshd_config.d"
    # The disk is mounted over it.
    "/var/*"
    # Words for people in other languages and manuals.
    "/usr/share/doc"
    "/usr/share/info"
    "/usr/share/lintian"
    "/usr/share/locale"
    "/usr/share/man"
    "/boot/*"
    "/usr/lib/udev/hwdb.d"
  ];
}
