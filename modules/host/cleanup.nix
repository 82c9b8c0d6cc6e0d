# Removes machines that are no longer declared with `agent-vm prune`, which keeps their commits.
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
      description = "Remove machines that are no longer declared";
      startAt = cfg.cleanup.dates;
      unitConfig.ConditionPathIsDirectory = state;
      path = [ pkgs.util-linux ];
      # A machine's account need not own the repository. agent-vm compares its commits with the workspace's, with the rights of
      # that account.
      environment.GIT_CONFIG_GLOBAL = "${pkgs.writeText "agent-vms-cleanup-gitconfig" (
        lib.generators.toGitINI { safe.directory = "*"; }
      )}";
      serviceConfig =
        # agent-vm reads a workspace in the same sandbox as it runs a machine in.
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
          # A repository may be in a home directory. Commits that it has need not be kept.
          ProtectHome = "read-only";
          PrivateNetwork = true;
          DeviceAllow = "";
          # For setpriv, and to examine directories of other accounts.
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
