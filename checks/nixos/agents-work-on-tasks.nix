# A coding agent that the machine has as a package works on a task: it reaches its model through the host's egress proxy, knows
# the machine's MCP servers, and commits in the workspace.
{ pkgs, ... }:
let
  inherit (import ../../lib/policy)
    agentMcp
    agents
    egress
    ports
    ;
  keys = import ../nixos-lib/keys.nix { inherit pkgs; };
  proxyPort = 8888;
  python = "${pkgs.python3}/bin/python3";
  service = command: {
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {
      ExecStart = command;
      Restart = "on-failure";
    };
  };
in
{
  nodes = {
    machine = {
      imports = [ ../nixos-lib/agent.nix ];
      agentVm.agents = [ "codex" ];
      environment.systemPackages = [ pkgs.git ];
    };
    # The host with its proxy, and a stand-in for the model's API.
    client = {
      imports = [ ../nixos-lib/client.nix ];
      networking.firewall.allowedTCPPorts = [ 9443 ];
      systemd.services = {
        model = service "${python} ${../../agent-vm-rs/tests/vm_machines/model_api.py} /tmp 0.0.0.0 9443 ${keys}/site.pem ${keys}/site.key";
        proxy = service "${python} ${../nixos-lib/connect_proxy.py} ${toString proxyPort}";
        # The reverse tunnel, as agent-vm starts it.
        tunnel =
          service "/run/current-system/sw/bin/agent-ssh user dev@machine -N -o ExitOnForwardFailure=yes -R 127.0.0.1:${toString egress.port}:127.0.0.1:${toString proxyPort}"
          // {
            # Until the machine runs.
            unitConfig.StartLimitIntervalSec = 0;
          };
      };
    };
  };
  testScript = ''
    import json
    import shlex

    start_all()
    machine.wait_for_unit("agent-mcp.service")
    client.wait_for_open_port(9443)
    client.wait_until_succeeds("nc -z -w 10 machine 22")
    machine.wait_until_succeeds("bash -c ': </dev/tcp/127.0.0.1/${toString egress.port}'")

    def session(*words: str) -> str:
        return client.succeed(f"agent-ssh user dev@machine {shlex.quote(shlex.join(words))} 2>&1", timeout=600)

    identity = "git config user.name dev && git config user.email dev@localhost"
    session("sh", "-c", f"cd /workspace && git init -q -b main && {identity} && git commit -q --allow-empty -m first")
    preset = json.loads(${builtins.toJSON (builtins.toJSON agents.codex)})
    options = [
        "--model=gpt-5",
        '--config=openai_base_url="https://client:9443/v1"',
        '--config=mcp_servers.default.url="http://127.0.0.1:${toString ports.mcpInner}${agentMcp.mcpPath}"',
    ]
    words = [preset["command"], *preset["task"]["command"], *preset["arguments"], *preset["unattended"], *options, "--", "make a file"]
    # The placeholder of a key, as the proxy would replace it.
    script = f"cd /workspace && export OPENAI_API_KEY=placeholder && {preset['prepare'][0]}\nexec {shlex.join(words)} </dev/null"
    said = session("sh", "-c", script)
    assert "The task is done." in said, said
    made = session("git", "-C", "/workspace", "log", "--format=%s", "--", "made")
    assert made.split() == ["made"], made

    asked = [json.loads(line) for line in client.succeed("cat /tmp/seen").splitlines()]
    answered = [request for request in asked if request["path"] == "/v1/responses" and request["tools"]]
    assert any("Bearer placeholder" in request["headers"].values() for request in asked), asked
    # The model is offered the tools of the machine's server.
    names = {name for request in answered for name in request["tools"] if name}
    assert any("default" in name for name in names), names
    client.succeed("journalctl --no-pager -u proxy | grep 'CONNECT client:9443'")
    # Control: without the tunnel the agent reaches nothing.
    client.succeed("systemctl stop tunnel")
    client.fail(f"agent-ssh user dev@machine {shlex.quote(shlex.join(['sh', '-c', 'timeout 60 ' + script.split('exec ', 1)[1]]))}")
  '';
}
