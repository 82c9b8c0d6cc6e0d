# The machine's only outgoing connections are through the host's egress proxy: programs use the proxy and trust the host's
# certificate authority, and without the reverse tunnel the machine reaches no other machine.
{ pkgs, ... }:
let
  inherit (import ../../lib/policy) egress;
  keys = import ../nixos-lib/keys.nix { inherit pkgs; };
  proxyPort = 8888;

  service = command: {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.ExecStart = command;
  };
  site =
    name: port:
    service "${pkgs.openssl}/bin/openssl s_server -quiet -www -accept ${toString port} -cert ${keys}/${name}.pem -key ${keys}/${name}.key";
in
{
  nodes = {
    machine = {
      imports = [ ../nixos-lib/agent.nix ];
      environment.systemPackages = [
        pkgs.curl
        pkgs.openssl
        pkgs.procps
        pkgs.python3
      ];
    };
    # The host with its proxy, and two HTTPS servers.
    client = {
      imports = [ ../nixos-lib/client.nix ];
      networking.firewall.allowedTCPPorts = [
        9443
        9444
      ];
      systemd.services = {
        site = site "site" 9443;
        other-site = site "other-site" 9444;
        proxy = service "${pkgs.python3}/bin/python3 ${../nixos-lib/connect_proxy.py} ${toString proxyPort}";
        # The reverse tunnel, as agent-vm starts it.
        tunnel.serviceConfig.ExecStart = "/run/current-system/sw/bin/agent-ssh user dev@machine -N -o ExitOnForwardFailure=yes -R 127.0.0.1:${toString egress.port}:127.0.0.1:${toString proxyPort}";
      };
    };
  };
  testScript = ''
    import json
    import shlex

    proxy = "http://127.0.0.1:${toString egress.port}"
    listens = "bash -c ': </dev/tcp/127.0.0.1/${toString egress.port}'"
    # The second server has a certificate of another authority.
    site, other_site = "https://client:9443/", "https://client:9444/"
    quiet = "curl --silent --show-error --max-time 60 --output /dev/null"

    start_all()
    machine.wait_for_unit("agent-mcp.service")
    machine.wait_for_unit("sshd.service")
    for port in (9443, 9444, ${toString proxyPort}):
        client.wait_for_open_port(port)
    client.wait_until_succeeds("nc -z -w 10 machine 22")

    def session(command: str) -> tuple[int, str]:
        return client.execute(f"agent-ssh user dev@machine {shlex.quote(command)} 2>&1")

    # The proxy's variables are set in sessions and MCP servers.
    expected = set(json.loads('${
      builtins.toJSON (egress.environment ++ [ "TEST_SECRET=placeholder" ])
    }'))
    assert f"https_proxy={proxy}" in expected
    of_session = set(session("env")[1].splitlines())
    assert expected <= of_session, expected - of_session
    server = machine.succeed("pgrep --oldest --euid dev --full echo_server.py").strip()
    of_server = set(machine.succeed(f"tr '\\0' '\\n' </proc/{server}/environ").splitlines())
    assert expected <= of_server, expected - of_server

    # Without the tunnel, no connection succeeds, neither through the proxy nor directly. Control: the client reaches both sites.
    def proxy_is_unreachable() -> None:
        status, output = session(f"{quiet} {site}")
        assert status == 7 and "127.0.0.1" in output, (status, output)

    def connect_directly() -> int:
        return session(f"{quiet} --noproxy '*' {site}")[0]

    client.succeed(f"{quiet} --cacert ${keys}/ca.pem {site}")
    client.succeed(f"{quiet} --cacert ${keys}/other-ca.pem {other_site}")
    proxy_is_unreachable()
    assert connect_directly() == 7
    machine.fail("timeout 20 bash -c ': </dev/tcp/client/9443'")

    client.succeed("systemctl start tunnel")
    machine.wait_until_succeeds(listens)
    status, output = session(f"{quiet} {site}")
    assert status == 0, output
    client.succeed("journalctl --no-pager -u proxy | grep 'CONNECT client:9443'")
    assert connect_directly() == 7

    # Programs with different ways to find certificate authorities trust the host's authority, and no other.
    get = "import urllib.request; urllib.request.urlopen('https://client:PORT/', timeout=60).read()"
    for command, refusal in (
        (f"{quiet} https://client:PORT/", "SSL certificate problem"),
        (f"python3 -c {shlex.quote(get)}", "CERTIFICATE_VERIFY_FAILED"),
        (
            "openssl s_client -proxy 127.0.0.1:${toString egress.port} -connect client:PORT"
            " -verify_return_error -verify_hostname client </dev/null",
            "verify error",
        ),
    ):
        status, output = session(command.replace("PORT", "9443"))
        assert status == 0, output
        status, output = session(command.replace("PORT", "9444"))
        assert status != 0 and refusal in output, (status, output)

    # Without the variables, programs use the system's bundle, which also contains the system's own authorities.
    bare = f"env -i $(command -v curl) --silent --max-time 60 --output /dev/null --proxy {proxy}"
    machine.succeed(f"{bare} {site}")
    assert machine.execute(f"{bare} {other_site}")[0] == 60
    assert int(machine.succeed("grep -c 'BEGIN CERTIFICATE' ${egress.bundle}")) > 2

    client.succeed("systemctl stop tunnel")
    machine.wait_until_fails(listens)
    proxy_is_unreachable()
    # Control: without the firewall, a direct connection succeeds.
    machine.succeed("nft flush ruleset")
    assert connect_directly() == 0
  '';
}
