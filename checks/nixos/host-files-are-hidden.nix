# The machine's store holds only its own closure. No share shows the rest of the host's store.
{ pkgs, ... }:
let
  # A path in the host's store that is not in the machine's closure.
  secret = pkgs.writeText "only-on-the-host" "secret";
in
{
  nodes.machine = ../nixos-lib/agent.nix;
  # Otherwise paths in the test script would be added to the machine's store.
  includeTestScriptReferences = false;
  testScript = ''
    import os

    host_path = "${secret}"
    assert os.path.exists(host_path)
    machine.wait_for_unit("multi-user.target")
    # Control: the probe sees a path that exists.
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
