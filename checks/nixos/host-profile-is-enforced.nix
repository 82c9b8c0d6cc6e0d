# With AppArmor on the host, a machine's unit runs in the profile: the machine still works, and accesses that file modes alone
# would allow are refused. The same unit without the profile is the control.
{ lib, pkgs, ... }:
let
  repository = "/srv/app";
  shell = pkgs.busybox-sandbox-shell;
  namespaces = "--unshare-user --unshare-ipc --unshare-pid --unshare-uts --unshare-cgroup-try --unshare-net --new-session --cap-drop ALL";

  allowed = {
    repository = "cat ${repository}/file";
    state = "echo x >$STATE_DIRECTORY/file && mv $STATE_DIRECTORY/file $STATE_DIRECTORY/moved && cat $STATE_DIRECTORY/moved";
    temporary = "echo x >/tmp/file && cat /tmp/file";
    root = "ls /";
    nix = "nix --extra-experimental-features nix-command store ping";
    listen = ''python3 -c "import socket; socket.create_server(('127.0.0.1', 0))"'';
    namespaces = "bwrap ${namespaces} --ro-bind / / -- true";
    # The sandbox of QEMU, around a program that needs no other files.
    bubblewrap = ''
      bwrap ${namespaces} --as-pid-1 --proc /proc --dev /dev --tmpfs /tmp --dir /nix --dir /var --dir /var/lib \
        --dir "$(dirname "$STATE_DIRECTORY")" --ro-bind-try /nix/store /nix/store --ro-bind ${shell} ${shell} \
        --bind "$STATE_DIRECTORY" "$STATE_DIRECTORY" --chdir "$STATE_DIRECTORY" \
        -- ${shell}/bin/busybox sh -c 'echo x >inside'
    '';
    # It prints this line once it is in its namespaces, and keeps running.
    virtiofsd = ''
      mkdir -p "$STATE_DIRECTORY/shared"
      exec 3< <(exec unshare --user --map-root-user -- virtiofsd --socket-path="$STATE_DIRECTORY/virtiofsd.sock" \
        --shared-dir="$STATE_DIRECTORY/shared" --sandbox=namespace --seccomp=kill --inode-file-handles=never \
        --modcaps=-chown:-fsetid:-setgid:-setuid:-mknod:-setfcap 2>&1)
      daemon=$!
      sed '/Waiting for vhost-user socket connection/q' <&3
      kill $daemon
    '';
  };
  denied = {
    shadow = "cat /etc/shadow";
    hostKey = "cat /etc/ssh/ssh_host_test";
    ownKey = "cat /home/alice/.ssh/id";
    otherHome = "cat /home/bob/file";
    otherFile = "cat /srv/other";
    written = "$STATE_DIRECTORY/program -c :";
    signal = "kill -CONT $(cat ${repository}/other-process)";
    environment = "cat /proc/$(cat ${repository}/other-process)/environ";
  };

  program = pkgs.writeShellScript "probes" (
    ''
      cp -- "$(readlink -f "$BASH")" "$STATE_DIRECTORY/program" || exit
    ''
    + lib.concatStrings (
      lib.mapAttrsToList (name: command: ''
        ( ${command} ) >&2
        echo ${name} $?
      '') (allowed // denied)
    )
  );

  probe =
    settings: name:
    settings
    // {
      Type = "oneshot";
      ExecStart = program;
      ExecStop = "";
      Restart = "no";
      # The unit's mounts would hide files that the profile must refuse.
      ProtectHome = false;
      StandardOutput = "truncate:/run/${name}";
      StandardError = "journal";
    };
in
{
  nodes.host =
    { config, ... }:
    let
      unit = config.systemd.services.agent-vm-app;
      service = settings: {
        environment = removeAttrs unit.environment [ "PATH" ];
        path = [
          pkgs.bubblewrap
          pkgs.nix
          pkgs.python3
          pkgs.util-linux
          pkgs.virtiofsd
        ];
        serviceConfig = settings;
      };
    in
    {
      imports = [ ../../modules/host.nix ];
      security.apparmor.enable = true;
      services.agent-vms = {
        enable = true;
        package = import ../nixos-lib/stand-in.nix { inherit pkgs; };
        instances.app = {
          inherit repository;
          user = "alice";
          autostart = false;
        };
      };
      environment.systemPackages = [ pkgs.git ];
      users.users.alice.isNormalUser = true;
      users.users.bob.isNormalUser = true;
      systemd.services.confined = service (probe unit.serviceConfig "confined");
      systemd.services.control = service (
        probe (removeAttrs unit.serviceConfig [ "AppArmorProfile" ]) "control"
      );
    };
  testScript = ''
    host.wait_for_unit("multi-user.target")
    host.succeed("install -d -o alice ${repository} && echo x >${repository}/file")
    alice = "env HOME=/home/alice setpriv --reuid alice --regid users --clear-groups"
    git = f"{alice} git -C ${repository} -c user.name=t -c user.email=t@example.invalid"
    host.succeed(f"{git} init -q -b main && {git} commit -q --allow-empty -m one")

    # The machine and all its processes run under the profile, from start to stop.
    host.succeed("systemctl start agent-vm-app")
    # A process that ends meanwhile has no label.
    procs = "/sys/fs/cgroup/system.slice/agent-vm-app.service/cgroup.procs"
    labels = host.succeed(f"for pid in $(cat {procs}); do cat /proc/$pid/attr/current 2>/dev/null || :; done")
    assert set(labels.splitlines()) == {"agent-vm (enforce)"}, labels
    main = host.succeed("systemctl show -P MainPID agent-vm-app").strip()
    assert host.succeed(f"cat /proc/{main}/attr/current").strip() == "agent-vm (enforce)"
    assert host.succeed("cat /proc/self/attr/current").strip() == "unconfined"
    host.succeed("systemctl stop agent-vm-app")
    host.succeed("test -e /var/lib/agent-vms/app/app-main/stopped")

    # File modes allow these accesses, so that only the profile refuses them.
    host.succeed("chmod 644 /etc/shadow && chmod 755 /home/bob")
    for path in ("/etc/ssh/ssh_host_test", "/home/bob/file", "/srv/other"):
        host.succeed(f"echo x >{path} && chmod 644 {path}")
    host.succeed("install -d -m 700 -o alice /home/alice/.ssh && echo x >/home/alice/.ssh/id && chown alice /home/alice/.ssh/id")
    host.succeed("systemd-run --unit other-process -p User=alice sleep infinity")
    host.succeed("systemctl show -P MainPID other-process >${repository}/other-process")

    def statuses(unit: str) -> dict[str, int]:
        host.succeed(f"systemctl start {unit}")
        return {line.split()[0]: int(line.split()[1]) for line in host.succeed(f"cat /run/{unit}").splitlines()}

    allowed = "${toString (builtins.attrNames allowed)}".split()
    denied = "${toString (builtins.attrNames denied)}".split()
    outside = statuses("control")
    inside = statuses("confined")
    refused = host.succeed("journalctl --no-pager --grep apparmor=.DENIED || :")
    host.log(f"control: {outside}\nconfined: {inside}\n{refused}")
    assert outside == dict.fromkeys(allowed + denied, 0), outside
    assert all(inside[name] == 0 for name in allowed), inside
    assert all(inside[name] != 0 for name in denied), inside
  '';
}
