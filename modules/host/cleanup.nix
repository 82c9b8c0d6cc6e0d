# Destroys machines that are no longer declared, as `agent-vm destroy` does: what only they have is kept, and what cannot be
# kept stays where it is.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  cfg = config.services.agent-vms;
  state = "/var/lib/${cfg.stateDirectory}";
in
{
  config = lib.mkIf (cfg.enable && cfg.cleanup.enable) {
    systemd.services.agent-vms-cleanup = {
      description = "Destroy machines that are no longer declared";
      startAt = cfg.cleanup.dates;
      unitConfig.ConditionPathIsDirectory = state;
      path = [
        pkgs.findutils
        pkgs.jq
        pkgs.util-linux
      ];
      serviceConfig =
        # What agent-vm needs around a machine it needs to look into one, too.
        import ./hardening.nix // {
          Type = "oneshot";
          ExecStart = utils.escapeSystemdExecArgs (
            [
              (lib.getExe pkgs.bash)
              "${./cleanup.sh}"
              (lib.getExe cfg.package)
              state
              cfg.cleanup.keepDays
            ]
            ++ builtins.attrNames cfg.instances
          );
          ReadWritePaths = [ state ];
          # A repository may be in a home: commits that it has need not be kept.
          ProtectHome = "read-only";
          PrivateNetwork = true;
          DeviceAllow = "";
          # For setpriv, and to look into directories of other accounts.
          CapabilityBoundingSet = [
            "CAP_DAC_OVERRIDE"
            "CAP_DAC_READ_SEARCH"
            "CAP_FOWNER"
            "CAP_SETGID"
            "CAP_SETPCAP"
            "CAP_SETUID"
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
