# The machine's store is its own closure: what else the host has in its store is not there, and no share shows it.
{ pkgs, ... }:
let
  # In the host's store, as everything the test is made of, and in no machine's closure.
  secret = pkgs.writeText "only-on-the-host" "secret";
in
{
  nodes.machine = ../nixos-lib/agent.nix;
  # Else what the script names would be put into the machine's store.
  includeTestScriptReferences = false;
  testScript = ''
    import os

    host_path = "${secret}"
    assert os.path.exists(host_path)
    machine.wait_for_unit("multi-user.target")
    # The probe sees a path that is there.
    machine.succeed("test -e $(readlink -f /run/current-system)")
    machine.fail(f"test -e {host_path}")
    host = len(os.listdir("/nix/store"))
    guest = int(machine.succeed("ls /nix/store | wc -l"))
    machine.log(f"{host} paths in the host's store, {guest} in the machine's")
    assert guest < host
    mounts = machine.succeed("findmnt --noheadings --list --output FSTYPE,TARGET")
    assert not any("9p" in line and "/nix" in line for line in mounts.splitlines()), mounts
    machine.fail("touch /nix/store/probe")
  '';
}
