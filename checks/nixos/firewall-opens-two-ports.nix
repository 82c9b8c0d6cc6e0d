# Only ssh and MCP accept connections, and no connection leaves the machine.
{
  nodes = {
    machine =
      { pkgs, ... }:
      {
        imports = [ ../nixos-lib/agent.nix ];
        environment.systemPackages = [ pkgs.python3 ];
      };
    client =
      { pkgs, ... }:
      {
        imports = [ ../nixos-lib/client.nix ];
        networking.firewall.allowedTCPPorts = [ 9000 ];
        systemd.services.listener = {
          wantedBy = [ "multi-user.target" ];
          serviceConfig.ExecStart = "${pkgs.python3}/bin/python3 -m http.server 9000 --directory /var/empty";
        };
      };
  };
  testScript = ''
    start_all()
    machine.wait_for_unit("agent-mcp-gate.service")
    machine.wait_for_unit("sshd.service")
    client.wait_for_unit("listener.service")
    client.wait_for_open_port(9000)

    for port in (22, 8000):
        client.succeed(f"nc -z -w 10 machine {port}")
    # Control: the service answers on loopback.
    machine.succeed("systemd-run --unit other python3 -m http.server 9001 --directory /var/empty")
    machine.wait_until_succeeds("bash -c ': </dev/tcp/127.0.0.1/9001'")
    client.fail("nc -z -w 10 machine 9001")

    # The listener is reachable, but not from the machine, not even for its root.
    client.succeed("nc -z -w 10 client 9000")
    machine.fail("timeout 20 bash -c ': </dev/tcp/client/9000'")
    machine.fail("ping -c 1 -W 5 client")
    # Control: without the firewall the same connection succeeds.
    machine.succeed("nft flush ruleset")
    machine.succeed("timeout 20 bash -c ': </dev/tcp/client/9000'")
    client.succeed("nc -z -w 10 machine 9001")
  '';
}
