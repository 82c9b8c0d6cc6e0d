# What the unit forbids is seen from inside it, and the same probe outside it sees it allowed.
{ pkgs, ... }:
let
  # Each succeeds where nothing is forbidden.
  probes = pkgs.writeShellScriptBin "probes" ''
    probe() {
      if "''${@:2}" >/dev/null 2>&1; then echo "$1 allowed"; else echo "$1 denied"; fi
    }
    probe write-etc touch /etc/probe
    probe write-var touch /var/probe
    probe device test -b /dev/vda
    probe other-processes test -e /proc/1/exe
    probe kernel-log dmesg
    probe hostname hostname probe
    probe clock date --set "$(date)"
    probe sysctl sh -c 'echo 1 >/proc/sys/vm/drop_caches'
    probe cgroups mkdir /sys/fs/cgroup/probe
    probe namespace unshare --mount true
    probe packets python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'
    probe setuid sh -c 'cp /bin/sh /tmp/probe && chmod u+s /tmp/probe'
    probe realtime chrt --fifo 1 true
    probe personality setarch --addr-no-randomize true
    probe workspace touch /workspace/probe
  '';
  may = [ "workspace" ];
in
{
  nodes.machine =
    { lib, ... }:
    {
      imports = [ ../nixos-lib/agent.nix ];
      environment.systemPackages = [
        pkgs.python3
        probes
      ];
      # The unit's own confinement, with a program of ours in place of the launcher. As root, so that it is the
      # directives that deny and not the account.
      systemd.services.probe = {
        path = [
          pkgs.util-linux
          pkgs.hostname
          pkgs.python3
        ];
        serviceConfig = (import ../../lib/policy).agentMcp.hardening // {
          # /proc hides nothing from who may trace everybody.
          CapabilityBoundingSet = "~CAP_SYS_PTRACE";
          Type = "oneshot";
          ReadWritePaths = [ "/workspace" ];
          ExecStart = lib.getExe probes;
          StandardOutput = "truncate:/run/probes";
        };
      };
    };
  testScript = ''
    may = ${builtins.toJSON may}
    machine.wait_for_unit("agent-mcp.service")
    outside = dict(line.split() for line in machine.succeed("probes").splitlines())
    # Other things of the machine deny these to everybody; the probe can say nothing of the unit there.
    known = [name for name, verdict in outside.items() if verdict == "allowed"]
    machine.log(f"allowed outside: {known}")
    assert len(known) >= 12, outside

    machine.succeed("systemctl start probe.service")
    inside = dict(line.split() for line in machine.succeed("cat /run/probes").splitlines())
    wrong = {name: inside[name] for name in known if (inside[name] == "allowed") != (name in may)}
    assert not wrong, wrong

    # The service itself has these very directives.
    score = machine.succeed("systemd-analyze security --no-pager agent-mcp.service | tail -n 1")
    machine.log(score)
    assert float(score.split("agent-mcp.service:")[1].split()[0]) <= 1.3, score
    assert machine.succeed("systemctl show -P User agent-mcp").strip() == "dev"
  '';
}
