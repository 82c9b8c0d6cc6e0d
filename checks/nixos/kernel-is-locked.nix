# Once the machine runs, even its root cannot load modules, start another kernel or make user namespaces.
{
  nodes = {
    machine =
      { pkgs, ... }:
      {
        imports = [ ../nixos-lib/agent.nix ];
        environment.systemPackages = [ pkgs.kmod ];
      };
    # Control: the same kernel without the policy.
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

    # A module that neither machine has loaded.
    load = "modprobe dummy"
    control.succeed(load)
    machine.fail(load)
    assert machine.succeed("cat /proc/sys/kernel/modules_disabled").strip() == "1"

    namespace = "as-dev 'unshare --user true'"
    control.succeed(namespace)
    machine.fail(namespace)
    # Root is refused too: an agent that became root must not gain new capabilities in a namespace.
    machine.fail("unshare --user true")

    assert control.succeed("cat /proc/sys/kernel/kexec_load_disabled").strip() == "0"
    assert machine.succeed("cat /proc/sys/kernel/kexec_load_disabled").strip() == "1"
    machine.fail("echo 0 >/proc/sys/kernel/kexec_load_disabled")
    machine.fail("echo disk >/sys/power/state")
    assert "nohibernate" in machine.succeed("cat /proc/cmdline")

    # The firewall's modules were loaded before modules were locked.
    assert "agent-vm" in machine.succeed("nft list tables")
  '';
}
