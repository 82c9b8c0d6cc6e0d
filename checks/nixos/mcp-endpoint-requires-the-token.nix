# The MCP endpoint accepts only requests over TLS with the token, a known host name and an allowed origin.
let
  policy = import ../../lib/policy;
in
{
  nodes = {
    machine = ../nixos-lib/agent.nix;
    client = ../nixos-lib/client.nix;
  };
  testScript = ''
    start_all()
    machine.wait_for_unit("agent-mcp.service")
    machine.wait_for_unit("agent-mcp-gate.service")
    client.wait_for_unit("multi-user.target")
    token = client.succeed("mcp-token").strip()
    bearer = f"-H 'Authorization: Bearer {token}'"

    def status(arguments: str, url: str = "https://machine:8000/status") -> str:
        return client.succeed(f"mcp-status {arguments} {url}").strip()

    # Control: a correct request.
    assert status(bearer) == "200"
    assert status("") == "401"
    assert status(f"-H 'Authorization: Bearer {'0' * 64}'") == "401"
    assert status(f"{bearer} -H 'Host: example.org'") == "421"
    assert status(f"{bearer} -H 'Origin: https://example.org'") == "403"
    assert status(f"{bearer} -H 'Origin: https://claude.ai'") == "200"
    assert status("-X OPTIONS -H 'Origin: https://example.org' -H 'Access-Control-Request-Method: POST'") == "403"
    assert status("-X OPTIONS -H 'Origin: https://claude.ai' -H 'Access-Control-Request-Method: POST'") == "204"
    assert status(bearer, "https://machine:8000/docs") == "404"
    assert status(bearer, "http://machine:8000/status") == "400"
    # Let curl use old versions too.
    any_tls = "--ciphers ALL:@SECLEVEL=0"
    for version, code in (("1.3", "200"), ("1.2", "200"), ("1.1", "000"), ("1.0", "000")):
        assert status(f"{bearer} {any_tls} --tlsv{version} --tls-max {version}") == code, version
    other = client.succeed("mcp-other-authority").strip()
    assert status(f"{bearer} --cacert {other}") == "000"

    # The gateway listens on the machine's loopback only.
    machine.succeed("timeout 20 bash -c ': </dev/tcp/127.0.0.1/8001'")
    client.fail("nc -z -w 10 machine 8001")

    # The agent can read neither key nor token; root can.
    assert machine.succeed("systemctl show -P User agent-mcp-gate").strip() == "agent-gate"
    pid = machine.succeed("systemctl show -P MainPID agent-mcp-gate").strip()
    for path in (
        "/run/agent-mcp-gate/nginx.conf",
        "/run/credentials/agent-mcp-gate.service/agent-vm.mcp-key",
        "/sys/firmware/qemu_fw_cfg/by_name/${policy.qemu.credentialPrefix}${policy.credentials.mcpToken}/raw",
        f"/proc/{pid}/environ",
    ):
        machine.succeed(f"cat {path} >/dev/null")
        assert "Permission denied" in machine.fail(f"as-dev 'cat {path}' 2>&1")
    machine.fail(f"grep -q {token} /proc/{pid}/cmdline")
    machine.fail(f"journalctl --no-pager | grep -q {token}")

    score = machine.succeed("systemd-analyze security --no-pager agent-mcp-gate.service | tail -n 1")
    machine.log(score)
    assert float(score.split("agent-mcp-gate.service:")[1].split()[0]) <= 1.3, score

    # Without the host's credentials every request is refused.
    machine.succeed("mkdir -p /run/systemd/system/agent-mcp-gate.service.d")
    machine.succeed("printf '[Service]\nImportCredential=\nImportCredential=no-such-credential.*\n' >/run/systemd/system/agent-mcp-gate.service.d/bare.conf")
    machine.succeed("systemctl daemon-reload")
    machine.execute("systemctl restart agent-mcp-gate")
    machine.wait_until_succeeds("journalctl --no-pager -u agent-mcp-gate | grep 'no endpoint: the credential .* is missing'", timeout=120)
    assert status(bearer) == "000"
  '';
}
