# A machine that nothing uses is stopped after its idleTimeout, and one that is used goes on. One is stopped after its ttl.
# Neither is started again, but one that crashes is. Reading a machine's metrics is no use of it.
{ pkgs, ... }:
let
  host = import ../nixos-lib/stand-in-guest.nix;
  instance =
    branch: settings:
    {
      repository = "/srv/app";
      inherit branch;
      autostart = false;
      resources.memory = 256;
    }
    // settings;
in
{
  nodes.host = {
    imports = [
      (host {
        unused = instance "unused" { idleTimeout = "20s"; };
        used = instance "used" {
          idleTimeout = "20s";
          sshPort = 2202;
        };
        aged = instance "aged" {
          idleTimeout = null;
          ttl = "20s";
        };
        endless = instance "endless" { idleTimeout = null; };
      })
    ];
    services.agent-vms.monitoring = {
      enable = true;
      interval = 5;
    };
    virtualisation.memorySize = 2048;
    environment.systemPackages = [
      pkgs.git
      pkgs.procps
      pkgs.util-linux
    ];
    # A session of ssh, from the moment at which the machine answers.
    systemd.services.session = {
      wantedBy = [ "agent-vm-used.service" ];
      after = [ "agent-vm-used.service" ];
      script = "exec sleep infinity 3<>/dev/tcp/127.0.0.1/2202";
    };
    systemd.services.agent-vm-endless.serviceConfig.RestartSec = 1;
  };
  testScript = ''
    import json

    host.wait_for_unit("multi-user.target")
    git = "git -C /srv/app -c user.name=t -c user.email=t@example.invalid"
    host.succeed(f"install -d /srv/app && {git} init -q -b main && {git} commit -q --allow-empty -m one")

    def directory(name: str) -> str:
        return f"/var/lib/agent-vms/{name}/app-{name}"

    def state(name: str) -> str:
        return host.succeed(f"systemctl show -P ActiveState agent-vm-{name}").strip()

    def events(name: str) -> list[str]:
        account = f"setpriv --reuid agent-vm-{name} --regid agent-vm-{name} --clear-groups"
        said = host.succeed(f"env HOME=/tmp {account} agent-vm --state-dir /var/lib/agent-vms/{name} events app-{name} --json")
        return [json.loads(line)["event"] for line in said.splitlines()]

    def wait_until_stopped(name: str, event: str) -> None:
        # A unit that failed is failed, and one that will be started again is activating.
        host.wait_until_succeeds(f"systemctl show -P ActiveState agent-vm-{name} | grep -qx inactive")
        assert events(name)[-1] == event, events(name)
        host.fail(f"test -e {directory(name)}/run")
        # A unit that reads metrics may just run.
        host.wait_until_fails(f"pgrep -u agent-vm-{name}")

    host.succeed("systemctl start agent-vm-endless")
    with subtest("unused"):
        host.succeed("systemctl start agent-vm-unused")
        # Its metrics are read, also from within, while it is unused.
        host.wait_until_succeeds("grep 'mcp_up{machine=\"app-unused\"} 1' /run/agent-vms-metrics/unused/agent-vm.prom")
        wait_until_stopped("unused", "idle-stop")

    with subtest("used, and then no longer"):
        host.succeed("systemctl start agent-vm-used")
        host.wait_for_unit("session")
        # The watcher takes a sample every five seconds.
        host.wait_until_succeeds(f"test $(wc -l <{directory('used')}/samples.jsonl) -ge 7")
        samples = [json.loads(line) for line in host.succeed(f"cat {directory('used')}/samples.jsonl").splitlines()]
        assert all(sample["idle_seconds"] < 10 for sample in samples), samples
        assert state("used") == "active"
        host.succeed("systemctl stop session")
        wait_until_stopped("used", "idle-stop")

    with subtest("old"):
        host.succeed("systemctl start agent-vm-aged")
        wait_until_stopped("aged", "ttl-stop")

    with subtest("a stopped machine can be started, and one without limits goes on"):
        host.succeed("systemctl start agent-vm-unused")
        assert state("unused") == "active" and state("endless") == "active"
        assert events("endless") == ["created", "started", "ready"], events("endless")

    with subtest("a machine that crashes is started again"):
        host.succeed(f"kill -9 $(cut -d ' ' -f 1 {directory('endless')}/run/qemu.pid)")
        host.wait_until_succeeds("test $(systemctl show -P NRestarts agent-vm-endless) = 1 && systemctl is-active agent-vm-endless")
        assert events("endless")[-3:] == ["crashed", "started", "ready"], events("endless")
  '';
}
