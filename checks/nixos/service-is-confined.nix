# A probe inside the unit shows what each directive forbids. The same probe outside the unit is the control.
{ pkgs, lib, ... }:
let
  inherit ((import ../../lib/policy).agentMcp) hardening;
  python = "${pkgs.python3}/bin/python3 ${../nixos-lib/probes.py}";

  # For each directive, a command that succeeds without it.
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
    # Module loading is locked in the whole machine, so the probe checks the capability to load a module.
    ProtectKernelModules = "(( 0x$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status) >> 16 & 1 ))";
    RestrictAddressFamilies = "${python} packets";
    RestrictNamespaces = "unshare --mount true";
    RestrictRealtime = "chrt --fifo 1 true";
    RestrictSUIDSGID = "cp /proc/self/exe /tmp/probe.$$ && chmod u+s /tmp/probe.$$";
    LockPersonality = "setarch --addr-no-randomize true";
    SystemCallArchitectures = "${python} other_architecture";
    SystemCallFilter = "touch /tmp/owned.$$ && chown 1 /tmp/owned.$$";
    KeyringMode = "${python} find_key";
    ProtectHome = "test -e /home/of-the-machine";
    UMask = "test $(umask) = 0022";
  };
  # Directives that the test checks in another way.
  elsewhere = [
    "AmbientCapabilities"
    "CapabilityBoundingSet"
    "RemoveIPC"
    "SystemCallErrorNumber"
  ];
  missing = lib.subtractLists (builtins.attrNames probes ++ elsewhere) (builtins.attrNames hardening);

  program = pkgs.writeShellScriptBin "probes" (
    lib.concatStrings (
      lib.mapAttrsToList (directive: command: ''
        ( ${command} ) >/dev/null 2>&1
        echo ${directive} $?
      '') (probes // { workspace = "touch /workspace/probe"; })
    )
  );
in
{
  nodes.machine =
    { config, lib, ... }:
    {
      imports = [ ../nixos-lib/agent.nix ];
      environment.systemPackages = [ program ];
      # The service's confinement, with the probes instead of the gateway. They run as root, so that the directives deny an
      # operation and not the account's rights.
      systemd.services.probe = {
        path = [
          pkgs.util-linux
          pkgs.hostname
        ];
        serviceConfig =
          builtins.intersectAttrs hardening config.systemd.services.agent-mcp.serviceConfig
          // {
            inherit (config.systemd.services.agent-mcp.serviceConfig) BindPaths ReadWritePaths;
            # /proc hides nothing from a process that may trace all others.
            CapabilityBoundingSet = "~CAP_SYS_PTRACE";
            Type = "oneshot";
            ExecStart = lib.getExe program;
            StandardOutput = "truncate:/run/probes";
            # The shell reports which program was killed.
            StandardError = "journal";
          };
      };
    };
  testScript =
    assert lib.assertMsg (missing == [ ]) "no probe for ${toString missing}";
    ''
      machine.wait_for_unit("agent-mcp.service")
      machine.succeed("touch /tmp/of-the-machine /home/of-the-machine; readlink /proc/self/ns/ipc >/run/ipc")
      machine.succeed("${python} make_key")

      def statuses(text: str) -> dict[str, int]:
          return {line.split()[0]: int(line.split()[1]) for line in text.splitlines()}

      # systemd gives a service its own keyring unless KeyringMode says otherwise.
      outside = statuses(machine.succeed("systemd-run --quiet --wait --pipe -E PATH -p KeyringMode=shared probes"))
      # The whole machine denies these operations, so their probes show nothing about the unit.
      blind = [name for name, status in outside.items() if status != 0]
      machine.log(f"denied outside too: {blind}")
      assert len(blind) <= 2, outside

      machine.succeed("systemctl start probe.service")
      inside = statuses(machine.succeed("cat /run/probes"))
      assert inside.pop("workspace") == 0, "the service cannot write to its workspace"
      allowed = [name for name, status in inside.items() if status == 0 and name not in blind]
      assert not allowed, allowed
      # SystemCallErrorNumber: the call fails, and no signal kills the process.
      assert inside["SystemCallFilter"] == 1, inside

      # RemoveIPC with the service's value and with the opposite, for an account without other processes.
      def left_behind(value: str) -> str:
          machine.succeed(f"systemd-run --quiet --wait -E PATH -p User=nobody -p RemoveIPC={value} ipcmk --shmem 64")
          return machine.succeed("ipcs --shmems | grep nobody || :")

      assert left_behind(machine.succeed("systemctl show -P RemoveIPC agent-mcp").strip()) == ""
      assert left_behind("no") != ""

      # The service itself: its account, its capabilities, and systemd's exposure figure.
      pid = machine.succeed("systemctl show -P MainPID agent-mcp").strip()
      status = dict(line.split(":", 1) for line in machine.succeed(f"cat /proc/{pid}/status").splitlines())
      assert all(int(status[name], 16) == 0 for name in ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"]), status
      assert status["Uid"].split() == ["1000"] * 4, status
      score = machine.succeed("systemd-analyze security --no-pager agent-mcp.service | tail -n 1")
      machine.log(score)
      assert float(score.split("agent-mcp.service:")[1].split()[0]) <= 1.3, score
    '';
}
