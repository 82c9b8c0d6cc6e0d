# Modules, another kernel and user namespaces are refused once the machine is up, to root of the machine too.
{
  nodes = {
    machine =
      { pkgs, ... }:
      {
        imports = [ ../nixos-lib/agent.nix ];
        environment.systemPackages = [ pkgs.kmod ];
      };
    # The same kernel without the policy: what the probes show where nothing is locked.
    control =
      { pkgs, ... }:
      {
        imports = [ ../nixos-lib/as-dev.nix ];
        environment.systemPackages = [ pkgs.kmod ];
        users.users.dev.isNormalUser = true;
        boot.kernel.sysctl."kernel.unprivileged_userns_clone" = 1;
      };
  };
  testScript = ''
    start_all()
    control.wait_for_unit("multi-user.target")
    machine.wait_for_unit("multi-user.target")
    machine.wait_for_unit("disable-kernel-module-loading.service")

    # A module that neither has loaded.
    load = "modprobe dummy"
    control.succeed(load)
    machine.fail(load)
    assert machine.succeed("cat /proc/sys/kernel/modules_disabled").strip() == "1"

    namespace = "as-dev 'unshare --user true'"
    control.succeed(namespace)
    machine.fail(namespace)
    # Root may not either: an agent that became root must not get a fresh set of capabilities to play with.
    machine.fail("unshare --user true")

    assert control.succeed("cat /proc/sys/kernel/kexec_load_disabled").strip() == "0"
    assert machine.succeed("cat /proc/sys/kernel/kexec_load_disabled").strip() == "1"
    machine.fail("echo 0 >/proc/sys/kernel/kexec_load_disabled")
    machine.fail("echo disk >/sys/power/state")
    assert "nohibernate" in machine.succeed("cat /proc/cmdline")

    # The firewall was up before the door was shut.
    assert "agent-vm" in machine.succeed("nft list tables")
  '';
}
