# The metrics of machines reach Prometheus through the node exporter, and the alert rules notice a machine that crashes.
{ pkgs, ... }:
let
  host = import ../nixos-lib/stand-in-guest.nix;
  instance =
    settings:
    {
      repository = "/srv/app";
      autostart = false;
      resources.memory = 256;
    }
    // settings;
in
{
  nodes.host =
    { config, ... }:
    {
      imports = [
        (host {
          app = instance { };
          other = instance { branch = "other"; };
        })
      ];
      services.agent-vms.monitoring = {
        enable = true;
        interval = 5;
      };
      services.prometheus = {
        enable = true;
        globalConfig.scrape_interval = "5s";
        globalConfig.evaluation_interval = "5s";
        exporters.node.enable = true;
        scrapeConfigs = [
          {
            job_name = "node";
            static_configs = [
              { targets = [ "localhost:${toString config.services.prometheus.exporters.node.port}" ]; }
            ];
          }
        ];
      };
      virtualisation.memorySize = 2048;
      environment.systemPackages = [
        pkgs.curl
        pkgs.git
        pkgs.prometheus.cli
        pkgs.util-linux
      ];
      # A machine that crashed stays stopped.
      systemd.services.agent-vm-app.serviceConfig.Restart = "no";
    };
  testScript = ''
    import json

    api = "http://localhost:9090/api/v1"
    rules = json.loads(host.succeed("cat ${../../lib/monitoring/alerts.json}"))
    names = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    host.wait_for_unit("multi-user.target")
    git = "git -C /srv/app -c user.name=t -c user.email=t@example.invalid"
    host.succeed(f"install -d /srv/app && {git} init -q -b main && {git} commit -q --allow-empty -m one")
    host.wait_for_open_port(9090)
    host.wait_for_open_port(9100)

    def values(query: str) -> dict[str, str]:
        answer = json.loads(host.succeed(f"curl -sSf {api}/query --data-urlencode 'query={query}'"))
        return {one["metric"]["machine"]: one["value"][1] for one in answer["data"]["result"]}

    def wait_for(query: str, expected: dict[str, str]) -> None:
        def reached(last: bool) -> bool:
            found = values(query)
            if last:
                host.log(f"{query}: {found}")
            return found == expected

        retry(reached)

    def alerts() -> dict[str, str]:
        groups = json.loads(host.succeed(f"curl -sSf {api}/rules"))["data"]["groups"]
        return {rule["name"]: rule["state"] for group in groups for rule in group["rules"]}

    with subtest("a machine that was never started has no metrics"):
        host.succeed("systemctl start agent-vm-other-metrics")
        host.fail("test -e /run/agent-vms-metrics/other/agent-vm.prom")
        host.fail("systemctl is-failed agent-vm-other-metrics")

    host.succeed("systemctl start agent-vm-app agent-vm-other")
    with subtest("files that the node exporter can read"):
        for name in ("app", "other"):
            file = f"/run/agent-vms-metrics/{name}/agent-vm.prom"
            host.wait_until_succeeds(f"grep -q 'mcp_up.* 1$' {file}")
            host.succeed(f"promtool check metrics <{file}")
            assert host.succeed(f"stat -c '%a %U' {file}").strip() == f"644 agent-vm-{name}"
            token = host.succeed(f"cat /var/lib/agent-vms/{name}/app-*/tls/token").strip()
            assert len(token) == 64 and token not in host.succeed(f"cat {file}")
        host.wait_until_succeeds("curl -sSf localhost:9100/metrics | grep -x 'node_textfile_scrape_error 0'")
        # The alert about old metrics reads it.
        host.succeed("curl -sSf localhost:9100/metrics | grep 'node_textfile_mtime_seconds{file=.*agent-vm.prom'")

    with subtest("Prometheus has them"):
        both = {"app-main": "1", "app-other": "1"}
        wait_for("agent_vm_machine_mcp_up", both)
        wait_for('agent_vm_machine_state{state="running"} == 1', both)
        wait_for("agent_vm_machine_mcp_calls_total", {"app-main": "3", "app-other": "3"})
        wait_for('agent_vm_machine_memory_bytes{process="qemu"} > bool 0', both)

    with subtest("the alert rules notice a crash"):
        assert set(alerts()) == names, alerts()
        assert alerts()["AgentVMFailed"] == "inactive", alerts()
        host.succeed("kill -9 $(cut -d ' ' -f 1 /var/lib/agent-vms/app/app-main/run/qemu.pid)")
        wait_for("agent_vm_machine_failed == 1", {"app-main": "1"})
        wait_for('agent_vm_machine_state{state="running"} == 1', {"app-other": "1"})
        host.wait_until_succeeds(f"curl -sSf {api}/alerts | grep AgentVMFailed")
        assert alerts()["AgentVMFailed"] in ("pending", "firing"), alerts()
        assert alerts()["AgentVMMetricsMissing"] == "inactive", alerts()
  '';
}
