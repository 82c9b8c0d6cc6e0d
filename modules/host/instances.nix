{
  config,
  lib,
  modulesPath,
  pkgs,
  utils,
  ...
}:
let
  cfg = config.services.agent-vms;
  instances = lib.filterAttrs (_: instance: instance.enable) cfg.instances;
  hardening = import ./hardening.nix;

  commandsOf = import ./commands.nix {
    inherit
      config
      lib
      modulesPath
      pkgs
      ;
  };

  # The account need not own the repository. This is a file, because git's variables do not reach the git that serves a
  # clone. That git also checks the path of the git directory.
  gitconfig =
    name: instance:
    pkgs.writeText "agent-vm-${name}-gitconfig" (
      lib.generators.toGitINI {
        safe.directory = [
          instance.repository
          "${instance.repository}/.git"
        ];
      }
    );

  # % starts a specifier, and : ends a path.
  quoted = lib.replaceStrings [ "%" ":" ] [ "%%" "\\:" ];

  unit =
    name: instance:
    let
      commands = commandsOf name instance;
    in
    lib.nameValuePair "agent-vm-${name}" {
      description = "Agent machine ${name}";
      wantedBy = lib.optional instance.autostart "multi-user.target";
      # Without a guest in this host's closure, the first start fetches what it is built from.
      wants = [ "network-online.target" ];
      after = [
        "network-online.target"
        "nix-daemon.socket"
      ];
      unitConfig = {
        RequiresMountsFor = [ (lib.replaceStrings [ "%" ] [ "%%" ] instance.repository) ];
        # After it has ended five times, even slowly, another start does not help.
        StartLimitBurst = 5;
        StartLimitIntervalSec = 6 * (instance.startTimeout + 120);
      };
      # An agent may be working in the machine. A new version applies at the next start.
      restartIfChanged = false;
      environment = {
        HOME = "%S/${cfg.stateDirectory}/${name}";
        XDG_CACHE_HOME = "%C/${cfg.stateDirectory}/${name}";
        GIT_CONFIG_GLOBAL = "${gitconfig name instance}";
        NIX_REMOTE = "daemon";
      };
      serviceConfig =
        lib.mapAttrs (_: lib.mkDefault) (
          hardening
          // {
            Type = "notify";
            NotifyAccess = "main";
            User = instance.user;
            Group = config.users.users.${instance.user}.group;
            SupplementaryGroups = [ "kvm" ];
            StateDirectory = "${cfg.stateDirectory}/${name}";
            StateDirectoryMode = "0700";
            CacheDirectory = "${cfg.stateDirectory}/${name}";
            CacheDirectoryMode = "0700";
            ExecStartPre = utils.escapeSystemdExecArgs commands.apply;
            # SIGTERM stops the machine.
            ExecStart = utils.escapeSystemdExecArgs commands.start;
            # SIGTERM during the start; a time limit.
            SuccessExitStatus = [
              143
              75
            ];
            # The repository is the only part of home directories in the unit. Without it (-), agent-vm reports the error.
            BindReadOnlyPaths = [ "-${quoted instance.repository}" ];
            # A guest that powers off is started again. To end it, stop the unit.
            Restart = "always";
            # A machine that a time limit stopped stays stopped.
            RestartPreventExitStatus = 75;
            RestartSec = 30;
            TimeoutStartSec = instance.startTimeout + 30;
            TimeoutStopSec = 60;
            KillMode = "mixed";
            TasksMax = instance.resources.tasksMax;
          }
        )
        // lib.optionalAttrs (instance.resources.cpuQuota != null) {
          CPUQuota = instance.resources.cpuQuota;
        }
        // lib.optionalAttrs (instance.resources.memoryMax != null) {
          MemoryMax = instance.resources.memoryMax;
        };
    };

  users = lib.unique (lib.mapAttrsToList (_: instance: instance.user) instances);
in
{
  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    # Also for disabled machines: agent-vm treats a machine without this file as no longer declared.
    environment.etc = lib.mapAttrs' (
      name: instance:
      let
        inherit (commandsOf name instance) file settings;
      in
      lib.nameValuePair file { text = builtins.toJSON settings; }
    ) cfg.instances;
    systemd.services = lib.mapAttrs' unit instances;
    users.users = lib.genAttrs users (user: {
      # A user's own account is declared elsewhere, and that declaration takes precedence.
      isSystemUser = lib.mkIf (!config.users.users.${user}.isNormalUser) (lib.mkDefault true);
      group = lib.mkOverride 1250 user;
      description = lib.mkOverride 1250 "Agent machine";
    });
    users.groups =
      lib.genAttrs (lib.filter (user: config.users.users.${user}.group == user) users) (_: { })
      // {
        kvm.members = cfg.kvmUsers;
      };
  };
}
