{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.agent-vms;
  instances = lib.filterAttrs (_: instance: instance.enable) cfg.instances;
  hardening = import ./hardening.nix;

  settings =
    instance:
    pkgs.writeText "agent-vm-settings.json" (
      builtins.toJSON {
        inherit (instance) packages;
        egress = instance.egress.mode;
        inherit (instance.egress) allow;
      }
    );

  # Branches and addresses stand for themselves in a unit file only once they are out of reach of its syntax.
  script =
    name: instance: verb:
    pkgs.writeShellScript "agent-vm-${name}-${verb}" ''
      set -eu
      cd -- ${lib.escapeShellArg instance.repository}
      agent_vm() {
        ${lib.getExe cfg.package} --state-dir "$STATE_DIRECTORY" --timeout ${toString instance.startTimeout} --color never "$@"
      }
      branch=${lib.escapeShellArg instance.branch}
      ${
        {
          run = ''
            if [ "$(agent_vm --json list | ${lib.getExe pkgs.jq} length)" = 0 ]; then
              agent_vm create ${
                lib.escapeShellArgs (
                  lib.mapAttrsToList (flag: value: "--${flag}=${toString value}") (
                    lib.filterAttrs (_: value: value != null) {
                      config = settings instance;
                      inherit (instance) host port;
                      ssh-port = instance.sshPort;
                      inherit (instance.resources) memory cores disk;
                    }
                  )
                )
              } --branch="$branch"
            fi
            agent_vm start "$branch"
            ${lib.getExe' config.systemd.package "systemd-notify"} --ready
            # The unit lives as long as QEMU, whatever ends it.
            read -r qemu _ <"$(echo "$STATE_DIRECTORY"/*/run/qemu.pid)"
            exec ${lib.getExe' pkgs.coreutils "tail"} --follow --pid="$qemu" /dev/null
          '';
          stop = ''
            agent_vm stop "$branch"
          '';
        }
        .${verb}
      }
    '';

  unit =
    name: instance:
    lib.nameValuePair "agent-vm-${name}" {
      description = "Agent machine ${name}";
      wantedBy = lib.optional instance.autostart "multi-user.target";
      after = [
        "network.target"
        "nix-daemon.socket"
      ];
      unitConfig.RequiresMountsFor = [ instance.repository ];
      environment = {
        HOME = "%S/${cfg.stateDirectory}/${name}";
        XDG_CACHE_HOME = "%C/${cfg.stateDirectory}/${name}";
        # The repository may be somebody else's.
        GIT_CONFIG_COUNT = "1";
        GIT_CONFIG_KEY_0 = "safe.directory";
        GIT_CONFIG_VALUE_0 = instance.repository;
        NIX_REMOTE = "daemon";
      };
      serviceConfig =
        lib.mapAttrs (_: lib.mkDefault) (
          hardening
          // {
            Type = "notify";
            NotifyAccess = "all";
            User = instance.user;
            Group = instance.user;
            SupplementaryGroups = [ "kvm" ];
            StateDirectory = "${cfg.stateDirectory}/${name}";
            StateDirectoryMode = "0700";
            CacheDirectory = "${cfg.stateDirectory}/${name}";
            CacheDirectoryMode = "0700";
            ExecStart = script name instance "run";
            ExecStop = script name instance "stop";
            Restart = "on-failure";
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
    systemd.services = lib.mapAttrs' unit instances;
    users.users = lib.genAttrs users (user: {
      isSystemUser = lib.mkDefault true;
      group = lib.mkDefault user;
      description = lib.mkDefault "Agent machine";
    });
    users.groups = lib.genAttrs users (_: { }) // {
      kvm.members = cfg.kvmUsers;
    };
  };
}
