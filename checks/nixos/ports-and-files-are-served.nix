# ssh forwards ports of the machine's own loopback, of both address families, and serves SFTP. It forwards nothing else: no other
# host, no socket, and from the machine only the egress port.
{ pkgs, ... }:
let
  inherit (import ../../lib/policy) egress;
  serve =
    address:
    "${pkgs.python3}/bin/python3 -m http.server --bind ${address} --directory ${pkgs.writeTextDir "answer" "from ${address}"}";
in
{
  nodes = {
    machine = {
      imports = [ ../nixos-lib/agent.nix ];
      systemd.services = {
        four = {
          wantedBy = [ "multi-user.target" ];
          serviceConfig.ExecStart = "${serve "127.0.0.1"} 8080";
        };
        six = {
          wantedBy = [ "multi-user.target" ];
          serviceConfig.ExecStart = "${serve "::1"} 8086";
        };
      };
    };
    client = {
      imports = [ ../nixos-lib/client.nix ];
      networking.firewall.allowedTCPPorts = [ 8080 ];
      systemd.services.other = {
        wantedBy = [ "multi-user.target" ];
        serviceConfig.ExecStart = "${serve "0.0.0.0"} 8080";
      };
    };
  };
  testScript = ''
    start_all()
    machine.wait_for_unit("sshd.service")
    machine.wait_for_open_port(8080)
    machine.wait_for_open_port(8086, "::1")
    client.wait_for_open_port(8080)
    client.wait_until_succeeds("nc -z -w 10 machine 22")

    request = "printf 'GET /answer HTTP/1.0\\r\\n\\r\\n'"

    def through(destination: str) -> tuple[int, str]:
        return client.execute(f"{request} | timeout 60 agent-ssh user dev@machine -W {destination} 2>&1")

    for destination, answer in (
        ("127.0.0.1:8080", "from 127.0.0.1"),
        ("localhost:8080", "from 127.0.0.1"),
        ("localhost:8086", "from ::1"),
    ):
        status, output = through(destination)
        assert answer in output, (destination, status, output)

    # Nothing but sshd prevents this once the firewall is gone. Control: the machine then reaches the client.
    machine.succeed("nft flush ruleset")
    machine.wait_until_succeeds("timeout 20 bash -c ': </dev/tcp/client/8080'")
    for destination in ("client:8080", "0.0.0.0:8080", "machine:8080"):
        status, output = through(destination)
        assert status != 0 and "administratively prohibited" in output, (destination, status, output)
        assert "from " not in output, output

    # The machine gets no listener but the one of egress.
    listen = "agent-ssh user dev@machine -o ExitOnForwardFailure=yes -R"
    client.fail(f"{listen} 127.0.0.1:9999:127.0.0.1:8080 true")
    client.fail(f"{listen} 0.0.0.0:${toString egress.port}:127.0.0.1:8080 true")
    client.fail(f"{listen} /tmp/socket:127.0.0.1:8080 true")
    client.succeed(f"{listen} 127.0.0.1:${toString egress.port}:127.0.0.1:8080 true")

    # Files travel both ways, as the agent's account.
    sftp = "sftp -b - -i /tmp/key -o IdentitiesOnly=yes -o UserKnownHostsFile=/tmp/known_hosts dev@machine"
    client.succeed("echo hello >/tmp/sent")
    client.succeed(f"printf 'put /tmp/sent /workspace/sent\\nget /workspace/sent /tmp/back\\n' | {sftp}")
    client.succeed("cmp /tmp/sent /tmp/back")
    assert machine.succeed("stat -c %U /workspace/sent").strip() == "dev"
    client.fail(f"echo 'put /tmp/sent /etc/sent' | {sftp}")
    client.fail(f"echo 'get /run/credentials/sshd.service/*' | {sftp}")
  '';
}
