# What a machine uses of the host is limited by its unit, the port forwarders and virtiofsd. Each limit is exceeded in one
# machine; the other machine, with the default limits, does the same unhindered, and goes on meanwhile. Both run in namespaces.
{ lib, pkgs, ... }:
let
  host = import ../nixos-lib/stand-in-guest.nix;
  instance =
    settings:
    {
      repository = "/srv/app";
      autostart = false;
      # The test uses MCP from outside of the machine's account.
      tls = false;
      auth = false;
    }
    // settings;
in
{
  nodes.host = {
    imports = [
      (host {
        tight = instance {
          port = 8001;
          resources = {
            memory = 256;
            memoryMax = "700M";
            cpuQuota = "50%";
            tasksMax = 96;
            networkBandwidth = 256 * 1024;
            diskBandwidth = 1024 * 1024;
            workspaceSize = 16;
          };
        };
        roomy = instance {
          branch = "roomy";
          port = 8002;
          resources.memory = 256;
        };
      })
    ];
    virtualisation.memorySize = 3072;
    virtualisation.cores = 2;
    # By default a machine leaves 1 GiB free, but less on a small disk.
    virtualisation.diskSize = 1024;
    # NixOS tests set it so that no test runs out of memory unnoticed.
    boot.kernel.sysctl."vm.panic_on_oom" = lib.mkForce 0;
    environment.systemPackages = [
      pkgs.curl
      pkgs.git
      pkgs.jq
      pkgs.util-linux
    ];
    systemd.services.agent-vm-tight.serviceConfig.RestartSec = 1;
  };
  testScript = ''
    import json
    import time

    host.wait_for_unit("multi-user.target")
    git = "git -C /srv/app -c user.name=t -c user.email=t@example.invalid"
    host.succeed(f"install -d /srv/app && {git} init -q -b main && {git} commit -q --allow-empty -m one")
    ports = {"tight": 8001, "roomy": 8002}
    directory = {"tight": "/var/lib/agent-vms/tight/app-main", "roomy": "/var/lib/agent-vms/roomy/app-roomy"}
    host.succeed("systemctl start agent-vm-tight agent-vm-roomy")

    def use(name: str, what: str, amount: int) -> str:
        return f"curl --silent --show-error --fail --request POST http://127.0.0.1:{ports[name]}/use/{what}/{amount}"

    def cgroup(name: str, file: str) -> str:
        return host.succeed(f"cat /sys/fs/cgroup/system.slice/agent-vm-{name}.service/{file}").strip()

    def limits(name: str) -> dict:
        account = f"agent-vm-{name}"
        run = f"env HOME=/tmp setpriv --reuid {account} --regid {account} --clear-groups"
        status = host.succeed(f"{run} agent-vm --state-dir /var/lib/agent-vms/{name} status {directory[name].rsplit('/')[-1]} --json")
        return {limit["name"]: limit for limit in json.loads(status)["limits"]}

    def qemu(name: str) -> str:
        return host.succeed(f"cut -d ' ' -f 1 {directory[name]}/run/qemu.pid").strip()

    with subtest("machines are confined"):
        for name in ports:
            facts = json.loads(host.succeed(f"cat {directory[name]}/run/ports.json"))
            assert facts["confined"] == "namespaces, landlock", facts

    with subtest("the kernel has the limits, and agent-vm reports them"):
        for file, tight, roomy in (
            ("memory.max", str(700 << 20), str(2304 << 20)),
            ("cpu.max", "50000 100000", "max 100000"),
            ("pids.max", "96", "512"),
        ):
            assert cgroup("tight", file) == tight, cgroup("tight", file)
            assert cgroup("roomy", file) == roomy, cgroup("roomy", file)
        for name in ports:
            procs = cgroup(name, "cgroup.procs").split()
            assert qemu(name) in procs, procs
        found = limits("tight")
        unit = "systemd (agent-vm-tight.service)"
        assert found["cpu_quota"] == {"name": "cpu_quota", "value": 50, "by": unit}, found
        assert found["pids"]["by"] == unit and unit in found["memory"]["by"], found
        assert found["network_bandwidth"]["by"] == "the port forwarders", found
        assert "cpu_quota" not in limits("roomy")

    with subtest("threads"):
        assert host.succeed(use("roomy", "threads", 200)) == "200"
        assert 0 < int(host.succeed(use("tight", "threads", 200))) < 96

    with subtest("processor time"):
        for name in ports:
            host.succeed(use(name, "processor", 3))
        stat = {name: dict(line.split() for line in cgroup(name, "cpu.stat").splitlines()) for name in ports}
        assert int(stat["tight"]["nr_throttled"]) > 0 and int(stat["roomy"]["nr_throttled"]) == 0, stat

    with subtest("network"):
        took = {}
        for name in ports:
            began = time.monotonic()
            assert host.succeed(use(name, "network", 1024) + " | wc -c").strip() == str(1 << 20)
            took[name] = time.monotonic() - began
        assert took["tight"] > 3.5 and took["roomy"] < took["tight"], took

    with subtest("disk"):
        for name, expected in (("tight", True), ("roomy", False)):
            words = host.succeed(f"tr '\\0' ' ' </proc/{qemu(name)}/cmdline")
            assert ("drive.disk.throttling.bps-total=1048576" in words) == expected, words

    with subtest("the workspace"):
        def file_limit(name: str) -> str:
            # Of virtiofsd's process that serves the guest.
            daemon = f"$(cut -d ' ' -f 1 {directory[name]}/run/virtiofsd.pid)"
            return f"prlimit --pid {daemon} --fsize --noheadings --output SOFT"

        for name in ports:
            host.succeed(f"head -c {17 << 20} /dev/zero >{directory[name]}/workspace/large")
        host.wait_until_succeeds(f"test $({file_limit('tight')}) = 0")
        assert host.succeed(file_limit("roomy")).strip() == "unlimited"
        host.succeed(f"rm {directory['tight']}/workspace/large")
        host.wait_until_succeeds(f"test $({file_limit('tight')}) = {16 << 20}")

    with subtest("memory, and the host and the other machine go on"):
        before = {name: qemu(name) for name in ports}
        assert host.succeed(use("roomy", "memory", 1024)) == "1024"
        host.fail(use("tight", "memory", 1024))
        # Its unit starts the machine again.
        host.wait_until_succeeds("journalctl --no-pager -u agent-vm-tight | grep -q oom-kill")
        host.wait_until_succeeds(f"test $(cut -d ' ' -f 1 {directory['tight']}/run/qemu.pid) != {before['tight']} && systemctl is-active agent-vm-tight")
        assert host.succeed(use("tight", "memory", 64)) == "64"
        assert qemu("roomy") == before["roomy"]
        assert host.succeed(use("roomy", "threads", 1)) == "1"
  '';
}
