# With AppArmor on the host, the real agent-vm starts and stops a machine in its profile, namespaces and Landlock included.
# host-profile-is-enforced shows what the profile refuses.
{ pkgs, ... }:
let
  host = import ../nixos-lib/stand-in-guest.nix;
in
{
  nodes.host = {
    imports = [
      (host {
        app = {
          repository = "/srv/app";
          autostart = false;
          resources.memory = 256;
        };
      })
    ];
    security.apparmor.enable = true;
    virtualisation.memorySize = 2048;
    environment.systemPackages = [ pkgs.git ];
  };
  testScript = ''
    host.wait_for_unit("multi-user.target")
    git = "git -C /srv/app -c user.name=t -c user.email=t@example.invalid"
    host.succeed(f"install -d /srv/app && {git} init -q -b main && {git} commit -q --allow-empty -m one")
    status, _ = host.execute("systemctl start agent-vm-app")
    refused = host.succeed("journalctl --no-pager --grep apparmor=.DENIED || :")
    assert status == 0, refused
    facts = host.succeed("cat /var/lib/agent-vms/app/app-main/run/ports.json")
    assert "namespaces, landlock" in facts, facts
    # A process that ends meanwhile has no label.
    procs = "/sys/fs/cgroup/system.slice/agent-vm-app.service/cgroup.procs"
    labels = host.succeed(f"for pid in $(cat {procs}); do cat /proc/$pid/attr/current 2>/dev/null || :; done")
    assert set(labels.splitlines()) == {"agent-vm (enforce)"}, labels
    main = host.succeed("systemctl show -P MainPID agent-vm-app").strip()
    assert host.succeed(f"cat /proc/{main}/attr/current").strip() == "agent-vm (enforce)"
    qemu = host.succeed("cut -d ' ' -f 1 /var/lib/agent-vms/app/app-main/run/qemu.pid").strip()
    assert host.succeed(f"cat /proc/{qemu}/attr/current").strip() == "agent-vm (enforce)"
    # Control.
    assert host.succeed("cat /proc/self/attr/current").strip() == "unconfined"
    host.succeed("systemctl stop agent-vm-app")
    host.fail("test -e /var/lib/agent-vms/app/app-main/run")
  '';
}
