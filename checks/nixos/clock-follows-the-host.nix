# The clock is the host's within a second: after it was set wrong, and after the virtual machine was paused. The time zone is
# the one that the host names.
{
  nodes.machine = {
    imports = [ ../nixos-lib/agent.nix ];
  };
  testScript = ''
    import time

    machine.wait_for_unit("multi-user.target")
    machine.wait_for_unit("agent-vm-clock.service")


    def difference() -> float:
        # The command takes some time; the guest's clock was read in between.
        before = time.time()
        guest = float(machine.succeed("date +%s.%N"))
        after = time.time()
        return 0.0 if before <= guest <= after else min(abs(guest - before), abs(guest - after))


    def follows(_last_attempt: bool) -> bool:
        return difference() < 1


    retry(follows)

    for step in ["+1 hour", "-1 hour", "+2 seconds"]:
        # Control: without the service, the clock stays wrong.
        machine.succeed("systemctl stop agent-vm-clock.service")
        machine.succeed(f"date --set '{step}'")
        assert difference() > 1, step
        machine.succeed("systemctl start agent-vm-clock.service")
        retry(follows)

    # While the virtual machine is paused, its clock stops and the host's goes on.
    machine.send_monitor_command("stop")
    paused = time.time()
    retry(lambda _: time.time() - paused > 5)
    machine.send_monitor_command("cont")
    retry(follows)
    assert "set the clock by +" in machine.succeed("journalctl --unit agent-vm-clock.service")

    # The service may set the clock and nothing else; the agent's account cannot set it.
    assert machine.succeed("systemctl show --property CapabilityBoundingSet --value agent-vm-clock.service").strip() == "cap_sys_time"
    pid = machine.get_unit_property("agent-vm-clock.service", "MainPID")
    assert machine.succeed(f"stat --format %u /proc/{pid}").strip() != "0"
    machine.fail("as-dev 'date --set +1hour'")

    assert machine.succeed("cat /etc/timezone").strip() == "Europe/Berlin"
    assert machine.succeed("date --date @1750000000 +%Z").strip() == "CEST"
    assert machine.succeed("as-dev 'date --date @1750000000 +%Z'").strip() == "CEST"
  '';
}
