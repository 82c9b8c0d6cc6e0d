# The host's unit makes a machine of a repository that another account owns, runs it confined, starts it again when it
# ends, takes over what is declared anew, and ends it.
{ pkgs, ... }:
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
        # As somebody's own account, on a repository that no other may read.
        own = {
          repository = "/home/alice/own";
          user = "alice";
          autostart = false;
        };
      };
    };
    environment.systemPackages = [
      pkgs.git
      pkgs.jq
      pkgs.util-linux
    ];
    users.users.alice.isNormalUser = true;
    # Sooner than a real machine would be started again.
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
    # What the machine's account meets without the unit: a repository of somebody else's.
    as_app = "env HOME=/tmp setpriv --reuid agent-vm-app --regid agent-vm-app --clear-groups"
    refused = host.fail(f"{as_app} git clone file:///srv/app /tmp/clone 2>&1")
    assert "dubious ownership" in refused, refused

    def settings() -> dict:
        return json.loads(host.succeed(f"cat {directory}/config.json"))

    def change(file: str, program: str) -> None:
        host.succeed(f"jq '{program}' {file} >/tmp/changed && cat /tmp/changed >{file}")

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

    # A repository in a home: it is there, and nothing else of that home is.
    host.succeed("systemctl start agent-vm-own")
    own = "/var/lib/agent-vms/own/own-main"
    assert host.succeed(f"cat {own}/who").strip() == "alice"
    homes = host.succeed(f"cat {own}/homes")
    assert "own" in homes.split() and "private" not in homes.split(), homes
    assert "private" in host.succeed(f"{alice} ls -A /home/alice").split()
    host.fail(f"test -e {own}/wrote-elsewhere")
    host.succeed("systemctl stop agent-vm-own")

    # A machine that ends comes back, and is the same one.
    pid = f"cut -d ' ' -f 1 {directory}/run/qemu.pid"
    before = host.succeed(pid).strip()
    host.succeed(f"touch {directory}/kept && kill {before}")
    host.wait_until_succeeds(f"test $({pid}) != {before} && systemctl is-active agent-vm-app")
    host.succeed(f"test -e {directory}/kept")

    # What was declared differently when it was started last is taken over and told; what was set by hand stays.
    change(f"{state}/.declared-app-main.json", ".memory = 512 | .servers = []")
    change(f"{directory}/config.json", ".memory = 512 | .servers = [] | .cores = 7")
    told = restart()
    assert "memory was 512, is 4096" in told and "cores" not in told, told
    assert [settings()[key] for key in ("memory", "servers", "cores")] == [4096, ["nixos"], 7], settings()
    assert host.succeed(f"stat -c '%a %U' {directory}/config.json").strip() == "600 agent-vm-app"
    # But for the disk, which is told again and again.
    change(f"{directory}/config.json", ".disk = 1024")
    told = restart()
    assert "its disk has 1024 MiB" in told and "memory" not in told, told
    assert settings()["disk"] == 1024

    # A declaration that names another repository: the machine that runs is ended in order, and kept beside the new one.
    change(f"{directory}/config.json", '.source = "/srv/former"')
    host.succeed(f"rm -f {directory}/stopped")
    told = restart()
    host.succeed(f"test -e {directory}/stopped -a -e {directory}/kept -a -e {directory}-x/config.json")
    assert "app-main, of branch main of /srv/former, is declared no more" in told, told

    host.succeed("systemctl stop agent-vm-app")
    host.succeed(f"test -e {directory}-x/stopped")
    host.fail("systemctl is-active agent-vm-app")

    # What is declared stays, and so does what has changed lately; what else there is, its own account destroys.
    host.succeed("cd /var/lib/agent-vms && mkdir -p old/one old/two new/young && touch old/two/refuses")
    for kept in ("old/one", "old/two", "new/young"):
        host.succeed(f"cd /var/lib/agent-vms && echo '{{}}' >{kept}/config.json")
    host.succeed("cd /var/lib/agent-vms && chown -R alice old new && find old app -exec touch --date '-60 days' {} +")
    host.fail("systemctl start agent-vms-cleanup")
    told = host.succeed("journalctl --no-pager -o cat -u agent-vms-cleanup")
    assert "two in /var/lib/agent-vms/old cannot be destroyed; it stays" in told, told
    host.succeed("cd /var/lib/agent-vms && test -d old/two -a -d new/young -a ! -e old/one")
    assert host.succeed("cat /var/lib/agent-vms/old/destroyed").splitlines() == ["one alice"]
    host.succeed(f"test -d {directory} && rm /var/lib/agent-vms/old/two/refuses")
    host.succeed("find /var/lib/agent-vms/old -exec touch --date '-60 days' {} + && systemctl start agent-vms-cleanup")
    host.succeed("test ! -e /var/lib/agent-vms/old/two")
    host.succeed("systemctl list-timers --all | grep -q agent-vms-cleanup")
  '';
}
