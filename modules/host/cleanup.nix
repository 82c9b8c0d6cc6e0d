{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.agent-vms;
  state = "/var/lib/${cfg.stateDirectory}";
  declared = builtins.attrNames cfg.instances;
in
{
  config = lib.mkIf (cfg.enable && cfg.cleanup.enable) {
    systemd.services.agent-vms-cleanup = {
      description = "Remove machines that are no longer declared";
      startAt = cfg.cleanup.dates;
      unitConfig.ConditionPathIsDirectory = state;
      path = [ pkgs.findutils ];
      # A machine changes its directory whenever it starts.
      script = ''
        cd -- ${state}
        find . -mindepth 1 -maxdepth 1 -type d ${
          lib.concatMapStrings (name: "! -name ${lib.escapeShellArg name} ") declared
        }-print0 |
          while IFS= read -r -d "" directory; do
            if [ -z "$(find "$directory" -xdev -newermt '-${toString cfg.cleanup.keepDays} days' -print -quit)" ]; then
              echo "removing ${state}/''${directory#./}, unchanged for ${toString cfg.cleanup.keepDays} days"
              rm -rf --one-file-system -- "$directory"
            fi
          done
      '';
      serviceConfig = {
        Type = "oneshot";
        ProtectSystem = "strict";
        ReadWritePaths = [ state ];
        ProtectHome = true;
        PrivateNetwork = true;
        PrivateTmp = true;
        PrivateDevices = true;
        NoNewPrivileges = true;
        CapabilityBoundingSet = [
          "CAP_DAC_OVERRIDE"
          "CAP_DAC_READ_SEARCH"
          "CAP_FOWNER"
        ];
        Nice = 19;
        IOSchedulingClass = "idle";
      };
    };
    systemd.timers.agent-vms-cleanup.timerConfig = {
      Persistent = true;
      RandomizedDelaySec = "1h";
    };
  };
}
