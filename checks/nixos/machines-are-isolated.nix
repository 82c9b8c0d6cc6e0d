# Two machines of one host cannot reach each other's network or workspace.
let
  machine =
    { lib, ... }:
    {
      imports = [ ../nixos-lib/agent.nix ];
      # The test driver sets one SHARED_DIR for all machines, but each machine needs its own workspace.
      virtualisation.sharedDirectories.workspace.source = lib.mkForce ''"$TMPDIR/xchg"'';
    };
in
{
  nodes = {
    one = machine;
    two = machine;
  };
  testScript = ''
    start_all()
    for machine in (one, two):
        machine.wait_for_unit("agent-mcp-gate.service")
        machine.wait_for_unit("sshd.service")

    def reaches(port: int) -> str:
        return f"timeout 20 bash -c ': </dev/tcp/two/{port}'"

    one.succeed("getent hosts two")
    for port in (22, 8000):
        two.succeed(f"timeout 20 bash -c ': </dev/tcp/127.0.0.1/{port}'")
        one.fail(reaches(port))
        one.fail(f"as-dev \"{reaches(port)}\"")
    one.succeed("echo secret >/workspace/of-one && findmnt /workspace")
    two.succeed("findmnt /workspace")
    two.fail("test -e /workspace/of-one")
    # Control: without its own firewall, machine one reaches machine two.
    one.succeed("nft flush ruleset")
    for port in (22, 8000):
        one.succeed(reaches(port))
  '';
}
