# What each directive of the unit forbids is seen from inside it, and the same probe outside it sees it allowed.
{ pkgs, lib, ... }:
let
  inherit ((import ../../lib/policy).agentMcp) hardening;

  # For each directive a command that succeeds where it forbids nothing.
  probes = {
    NoNewPrivileges = "grep -q 'NoNewPrivs:.*0' /proc/self/status";
    ProtectSystem = "touch /etc/probe";
    PrivateTmp = "test -e /tmp/of-the-machine";
    PrivateDevices = "test -b /dev/vda";
    PrivateIPC = "test $(readlink /proc/self/ns/ipc) = $(cat /run/ipc)";
    ProtectProc = "test -e /proc/1/exe";
    ProcSubset = "test -e /proc/cpuinfo";
    ProtectClock = "date --set \"$(date)\"";
    ProtectControlGroups = "mkdir /sys/fs/cgroup/probe.$$";
    ProtectHostname = "hostname probe";
    ProtectKernelLogs = "dmesg";
    ProtectKernelTunables = "echo 1 >/proc/sys/vm/drop_caches";
    RestrictAddressFamilies = "python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'";
    RestrictNamespaces = "unshare --mount true";
    RestrictRealtime = "chrt --fifo 1 true";
    RestrictSUIDSGID = "cp $(command -v true) /tmp/probe.$$ && chmod u+s /tmp/probe.$$";
    LockPersonality = "setarch --addr-no-randomize true";
    SystemCallFilter = "touch /tmp/owned.$$ && chown 1 /tmp/owned.$$";
    ProtectHome = "test -e /home/of-the-machine";
    UMask = "test $(umask) = 0022";
  };
  # What no command here can show: its effect needs another account, another time or another program.
  unseen = [
    "AmbientCapabilities"
    # Looked up in the service's own process below.
    "CapabilityBoundingSet"
    "KeyringMode"
    # Modules are locked for everybody.
    "ProtectKernelModules"
    "RemoveIPC"
    "SystemCallArchitectures"
    "SystemCallErrorNumber"
  ];
  missing = lib.subtractLists (builtins.attrNames probes ++ unseen) (builtins.attrNames hardening);

  program = pkgs.writeShellScriptBin "probes" (
    lib.concatStrings (
      lib.mapAttrsToList (directive: command: ''
        if ( ${command} ) >/dev/null 2>&1; then echo ${directive} allowed; else echo ${directive} denied; fi
      '') probes
    )
  );
in
{
  nodes.machine =
    { config, lib, ... }:
    {
      imports = [ ../nixos-lib/agent.nix ];
      environment.systemPackages = [
        pkgs.python3
        program
      ];
      # The service's own confinement, with a program of ours in place of the launcher. As root, so that it is the
      # directives that deny and not the account.
      systemd.services.probe = {
        path = [
          pkgs.util-linux
          pkgs.hostname
          pkgs.python3
        ];
        serviceConfig =
          builtins.intersectAttrs hardening config.systemd.services.agent-mcp.serviceConfig
          // {
            # /proc hides nothing from who may trace everybody.
            CapabilityBoundingSet = "~CAP_SYS_PTRACE";
            Type = "oneshot";
            ExecStart = lib.getExe program;
            StandardOutput = "truncate:/run/probes";
          };
      };
    };
  testScript =
    assert lib.assertMsg (missing == [ ]) "no probe for ${toString missing}";
    ''
      machine.wait_for_unit("agent-mcp.service")
      machine.succeed("touch /tmp/of-the-machine /home/of-the-machine; readlink /proc/self/ns/ipc >/run/ipc")
      outside = dict(line.split() for line in machine.succeed("probes").splitlines())
      # Other things of the machine deny these to everybody; the probe can say nothing of the unit there.
      known = [name for name, verdict in outside.items() if verdict == "allowed"]
      machine.log(f"denied outside too: {set(outside) - set(known)}")
      assert len(known) >= 17, outside

      machine.succeed("systemctl start probe.service")
      inside = dict(line.split() for line in machine.succeed("cat /run/probes").splitlines())
      allowed = [name for name in known if inside[name] == "allowed"]
      assert not allowed, allowed

      # The service itself: its account, its capabilities, and all of its directives as one figure.
      pid = machine.succeed("systemctl show -P MainPID agent-mcp").strip()
      status = dict(line.split(":", 1) for line in machine.succeed(f"cat /proc/{pid}/status").splitlines())
      assert all(int(status[name], 16) == 0 for name in ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"]), status
      assert status["Uid"].split() == ["1000"] * 4, status
      score = machine.succeed("systemd-analyze security --no-pager agent-mcp.service | tail -n 1")
      machine.log(score)
      assert float(score.split("agent-mcp.service:")[1].split()[0]) <= 1.3, score
    '';
}
