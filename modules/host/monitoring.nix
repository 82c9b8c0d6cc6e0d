# Writes the metrics of each machine to a file for Prometheus' node exporter, and gives Prometheus the alert rules. Each machine's
# metrics are read with the rights of its own account.
{
  config,
  lib,
  utils,
  ...
}:
let
  cfg = config.services.agent-vms;
  monitoring = import ../../lib/monitoring;
  instances = lib.filterAttrs (_: instance: instance.enable) cfg.instances;
  directory = "agent-vms-metrics";

  unit =
    name: instance:
    lib.nameValuePair "agent-vm-${name}-metrics" {
      description = "Metrics of agent machine ${name}";
      environment.HOME = "%S/${cfg.stateDirectory}/${name}";
      unitConfig.ConditionPathIsDirectory = "/var/lib/${cfg.stateDirectory}/${name}";
      serviceConfig = import ./hardening.nix // {
        Type = "oneshot";
        User = instance.user;
        Group = config.users.users.${instance.user}.group;
        ExecStart = utils.escapeSystemdExecArgs [
          (lib.getExe cfg.package)
          "--state-dir"
          "/var/lib/${cfg.stateDirectory}/${name}"
          "metrics"
          "--textfile"
          "/run/${directory}/${name}/agent-vm.prom"
        ];
        # The node exporter reads the file, which has no secrets.
        RuntimeDirectory = "${directory}/${name}";
        RuntimeDirectoryMode = "0755";
        RuntimeDirectoryPreserve = true;
        # For ssh's sockets, which are in it.
        ReadWritePaths = [ "/var/lib/${cfg.stateDirectory}/${name}" ];
        DeviceAllow = "";
        TimeoutStartSec = 30;
        Nice = 10;
      };
    };

  timer =
    name: _:
    lib.nameValuePair "agent-vm-${name}-metrics" {
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnActiveSec = 0;
        OnUnitInactiveSec = cfg.monitoring.interval;
        AccuracySec = 1;
      };
    };
in
{
  config = lib.mkIf (cfg.enable && cfg.monitoring.enable) {
    systemd.services = lib.mapAttrs' unit instances;
    systemd.timers = lib.mapAttrs' timer instances;
    services.prometheus = {
      rules = lib.mkIf config.services.prometheus.enable [ (builtins.toJSON monitoring.alerts) ];
      # Without effect unless the exporter is enabled.
      exporters.node.extraFlags = map (name: "--collector.textfile.directory=/run/${directory}/${name}") (
        builtins.attrNames instances
      );
    };
  };
}
