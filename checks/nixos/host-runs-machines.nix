# The host's unit makes a machine of a repository that another account owns, runs it confined, starts it again when it ends,
# and ends it. A stand-in takes agent-vm's place: it does what agent-vm does with the account, and no machine.
{ pkgs, ... }:
let
  standIn = pkgs.writeShellApplication {
    name = "agent-vm";
    runtimeInputs = [
      pkgs.git
      pkgs.jq
      pkgs.coreutils
      pkgs.util-linux
    ];
    text = ''
      while [ $# -gt 0 ]; do
        case $1 in
          --state-dir) state=$2; shift 2 ;;
          --timeout | --color) shift 2 ;;
          --json) shift ;;
          *) break ;;
        esac
      done
      verb=$1
      shift
      machine=$state/app-main
      case $verb in
        list)
          if [ -d "$machine" ]; then echo '[{"name":"app-main","branch":"main"}]'; else echo '[]'; fi ;;
        create)
          echo "$@" >"$state/.asked"
          git clone --quiet "file://$PWD" "$machine.new"
          mv "$machine.new" "$machine" ;;
        start)
          mkdir -p "$machine/run"
          id --user --name >"$machine/who"
          cat /proc/self/status >"$machine/status"
          { touch /etc/probe || touch /home/probe || touch "$PWD/probe"; } 2>/dev/null && echo yes >"$machine/wrote-elsewhere"
          setsid sleep infinity &
          echo "$! 0 boot" >"$machine/run/qemu.pid" ;;
        stop)
          echo yes >"$machine/stopped"
          read -r pid _ <"$machine/run/qemu.pid"
          kill "$pid" ;;
      esac
    '';
  };
in
{
  nodes.host =
    { ... }:
    {
      imports = [ ../../modules/host.nix ];
      services.agent-vms = {
        enable = true;
        package = standIn;
        instances.app = {
          repository = "/srv/app";
          servers = [ "nixos" ];
          autostart = false;
        };
      };
      environment.systemPackages = [
        pkgs.git
        pkgs.util-linux
      ];
      users.users.alice.isNormalUser = true;
      # Sooner than a real machine would be started again.
      systemd.services.agent-vm-app.serviceConfig.RestartSec = 1;
    };
  testScript = ''
    machine = "/var/lib/agent-vms/app/app-main"
    host.wait_for_unit("multi-user.target")
    host.succeed("install -d -o alice /srv/app")
    git = "git -C /srv/app -c user.name=t -c user.email=t@example.invalid"
    alice = "env HOME=/home/alice setpriv --reuid alice --regid users --clear-groups"
    for command in ["init -q -b main", "commit -q --allow-empty -m one"]:
        host.succeed(f"{alice} {git} {command}")
    # The repository is another account's: git refuses it to the machine's account, unless it is told otherwise.
    host.fail("setpriv --reuid agent-vm-app --clear-groups git clone /srv/app /tmp/clone-as-other")
    host.succeed(f"{alice} git clone /srv/app /tmp/clone-as-owner")

    host.succeed("systemctl start agent-vm-app")
    host.succeed(f"git -c safe.directory=* -C {machine} rev-parse HEAD")
    assert host.succeed(f"cat {machine}/who").strip() == "agent-vm-app"
    status = dict(line.split(":", 1) for line in host.succeed(f"cat {machine}/status").splitlines())
    assert status["NoNewPrivs"].strip() == "1" and int(status["CapBnd"], 16) == 0 and status["Seccomp"].strip() == "2", status
    host.fail(f"test -e {machine}/wrote-elsewhere")
    assert host.succeed("stat -c %a /var/lib/agent-vms/app").strip() == "700"
    settings = host.succeed("cat /var/lib/agent-vms/app/.declared-app-main.json")
    assert '"servers":["nixos"]' in settings and '"egress":"allowlist"' in settings, settings

    # A machine that ends comes back, and is the same one.
    pid = f"cut -d ' ' -f 1 {machine}/run/qemu.pid"
    before = host.succeed(pid)
    host.succeed(f"touch {machine}/kept && kill {before}")
    host.wait_until_succeeds(f"test $({pid}) != {before.strip()} && systemctl is-active agent-vm-app")
    host.succeed(f"test -e {machine}/kept")

    # Other settings than it was made with are told, and it runs on.
    host.succeed("echo >>/var/lib/agent-vms/app/.declared-app-main.json")
    host.succeed("systemctl restart agent-vm-app")
    host.succeed("journalctl -u agent-vm-app | grep -q 'made with other settings'")

    host.succeed("systemctl stop agent-vm-app")
    host.succeed(f"test -e {machine}/stopped")
    host.fail("systemctl is-active agent-vm-app")

    # What is declared is never cleaned up; what is not and is old enough is.
    host.succeed("install -d /var/lib/agent-vms/old /var/lib/agent-vms/new && touch -d '-60 days' /var/lib/agent-vms/old /var/lib/agent-vms/app")
    host.succeed("systemctl start agent-vms-cleanup")
    host.succeed(f"test -d {machine} -a -d /var/lib/agent-vms/new -a ! -e /var/lib/agent-vms/old")
    host.succeed("systemctl list-timers --all | grep -q agent-vms-cleanup")
  '';
}
