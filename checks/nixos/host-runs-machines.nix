# The host's unit creates a machine of a repository that another account owns, runs it confined, starts it again when it
# ends, applies its declaration at each start, and stops it. Its clean-up prunes machines that are no longer declared.
{ pkgs, ... }:
let
  guest = pkgs.runCommand "agent-vm-guest" { meta.mainProgram = "run-agent-vm"; } "touch $out";
in
{
  nodes.host = {
    imports = [ ../../modules/host.nix ];
    services.agent-vms = {
      enable = true;
      package = import ../nixos-lib/stand-in.nix { inherit pkgs; };
      instances = {
        app = {
          repository = "/srv/app";
          servers = [ "nixos" ];
          autostart = false;
        };
        # With a user's own account, and a repository that no other account can read.
        own = {
          repository = "/home/alice/own";
          user = "alice";
          guestPackage = guest;
          autostart = false;
        };
        # Disabled is not undeclared.
        off = {
          enable = false;
          repository = "/srv/app";
        };
      };
    };
    environment.systemPackages = [
      pkgs.git
      pkgs.jq
      pkgs.util-linux
    ];
    users.users.alice.isNormalUser = true;
    # A short delay, for the test.
    systemd.services.agent-vm-app.serviceConfig.RestartSec = 1;
  };
  testScript = ''
    import json

    state = "/var/lib/agent-vms/app"
    directory = f"{state}/app-main"
    host.wait_for_unit("multi-user.target")
    host.succeed("install -d -o alice /srv/app && install -d -o alice -m 700 /home/alice/own && touch /home/alice/private")
    alice = "env HOME=/home/alice setpriv --reuid alice --regid users --clear-groups"
    for repository in ("/srv/app", "/home/alice/own"):
        git = f"{alice} git -C {repository} -c user.name=t -c user.email=t@example.invalid"
        host.succeed(f"{git} init -q -b main && {git} commit -q --allow-empty -m one")
    # Control: outside the unit, git refuses another account's repository.
    as_app = "env HOME=/tmp setpriv --reuid agent-vm-app --regid agent-vm-app --clear-groups"
    refused = host.fail(f"{as_app} git clone file:///srv/app /tmp/clone 2>&1")
    assert "dubious ownership" in refused, refused

    def settings() -> dict:
        return json.loads(host.succeed(f"cat {directory}/config.json"))

    def restart() -> str:
        host.succeed("systemctl reset-failed agent-vm-app; systemctl restart agent-vm-app")
        return host.succeed("journalctl --no-pager -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID agent-vm-app)")

    host.succeed("systemctl start agent-vm-app")
    host.succeed(f"git -c safe.directory=* -C {directory}/workspace rev-parse HEAD")
    assert host.succeed(f"cat {directory}/who").strip() == "agent-vm-app"
    assert settings()["servers"] == ["nixos"] and settings()["memory"] == 4096, settings()
    status = dict(line.split(":", 1) for line in host.succeed(f"cat {directory}/status").splitlines())
    assert status["NoNewPrivs"].strip() == "1" and int(status["CapBnd"], 16) == 0 and status["Seccomp"].strip() == "2", status
    host.fail(f"test -e {directory}/wrote-elsewhere")
    assert host.succeed(f"stat -c '%a %U' {state}").strip() == "700 agent-vm-app"
    assert "alice" not in host.succeed(f"cat {directory}/homes | grep -v /home/alice || :")

    # The unit sees a repository in a home directory, and no other part of that directory.
    host.succeed("systemctl start agent-vm-own")
    own = "/var/lib/agent-vms/own/own-main"
    assert host.succeed(f"cat {own}/who").strip() == "alice"
    homes = host.succeed(f"cat {own}/homes")
    assert "own" in homes.split() and "private" not in homes.split(), homes
    assert "private" in host.succeed(f"{alice} ls -A /home/alice").split()
    host.fail(f"test -e {own}/wrote-elsewhere")
    # A guest of this host's closure is given to agent-vm; without one, agent-vm builds it.
    assert "--foreground" in host.succeed(f"cat {own}/flags")
    assert "--guest-package ${guest}" in host.succeed(f"cat {own}/flags")
    assert "--guest-package" not in host.succeed(f"cat {directory}/flags")
    host.succeed("systemctl stop agent-vm-own")
    host.succeed(f"test -e {own}/stopped")

    # A machine that ends is started again and keeps its files.
    pid = f"cut -d ' ' -f 1 {directory}/run/qemu.pid"
    before = host.succeed(pid).strip()
    host.succeed(f"touch {directory}/kept && kill {before}")
    host.wait_until_succeeds(f"test $({pid}) != {before} && systemctl is-active agent-vm-app")
    host.succeed(f"test -e {directory}/kept")

    # Each start applies the declaration, whose file stays at its path.
    assert "applied /etc/agent-vms/app.json to app-main" in restart()
    host.succeed("test -e /etc/agent-vms/off.json")

    # For another repository there is another machine. The one that runs is stopped in order, and kept.
    host.succeed(f"sed -i 's|/srv/app|/srv/former|' {directory}/config.json && rm -f {directory}/stopped")
    restart()
    host.succeed(f"test -e {directory}/stopped -a -e {directory}/kept -a -e {directory}-x/config.json")
    host.succeed("systemctl stop agent-vm-app")
    host.succeed(f"test -e {directory}-x/stopped")
    host.fail("systemctl is-active agent-vm-app")

    # The clean-up has agent-vm prune the directories that are no longer declared, as their accounts, and touches nothing else.
    host.succeed("cd /var/lib/agent-vms && install -d -o alice old new off && mkdir -p root && touch new/refuses root/kept")
    host.fail("systemctl start agent-vms-cleanup")
    told = host.succeed("journalctl --no-pager -o cat -u agent-vms-cleanup")
    assert "failed to remove the machines in /var/lib/agent-vms/new" in told and "agent-vms/old" not in told, told
    assert host.succeed("cd /var/lib/agent-vms && cat old/pruned new/pruned").split() == ["alice", "alice"]
    host.succeed("rm /var/lib/agent-vms/new/refuses && systemctl start agent-vms-cleanup")
    host.fail("ls /var/lib/agent-vms/{app,own,off,root}/pruned 2>&1 | grep -v 'No such file'")
    host.succeed(f"test -d {directory} -a -e /var/lib/agent-vms/root/kept")
    host.succeed("systemctl list-timers --all | grep -q agent-vms-cleanup")
  '';
}
