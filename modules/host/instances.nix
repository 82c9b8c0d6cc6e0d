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

  # What `agent-vm create --config` reads.
  settings =
    name: instance:
    pkgs.writeText "agent-vm-${name}.json" (
      builtins.toJSON (
        lib.filterAttrs (_: value: value != null) {
          inherit (instance)
            host
            port
            packages
            servers
            ;
          inherit (instance.resources) memory cores disk;
          inherit (instance.egress) allow;
          ssh_port = instance.sshPort;
          nix_args = instance.nixArgs;
          egress = instance.egress.mode;
        }
      )
    );

  # The account need not own the repository. Not by variables of git's own: those do not reach the git that serves a clone.
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
            find_machine() {
              agent_vm --json list | ${lib.getExe pkgs.jq} --raw-output --arg branch "$branch" \
                'map(select(.branch == $branch))[0].name // empty'
            }
            declared=${settings name instance}
            machine=$(find_machine)
            if [ -z "$machine" ]; then
              agent_vm create --config "$declared" --branch="$branch"
              machine=$(find_machine)
              install -m 0600 -- "$declared" "$STATE_DIRECTORY/.declared-$machine.json"
            elif ! cmp --quiet -- "$declared" "$STATE_DIRECTORY/.declared-$machine.json"; then
              echo "<4>$machine was made with other settings than are declared now, and keeps them. To have a new one, with its commits kept in" \
                "a bundle: agent-vm --state-dir $STATE_DIRECTORY destroy $machine; systemctl restart agent-vm-${name}"
            fi
            agent_vm start "$machine"
            ${lib.getExe' config.systemd.package "systemd-notify"} --ready
            # The unit lives as long as QEMU, whatever ends it.
            read -r qemu _ <"$STATE_DIRECTORY/$machine/run/qemu.pid"
            exec tail --follow --pid="$qemu" /dev/null
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
      # The first start fetches what the guest is built from.
      wants = [ "network-online.target" ];
      after = [
        "network-online.target"
        "nix-daemon.socket"
      ];
      unitConfig = {
        RequiresMountsFor = [ instance.repository ];
        # Five ends, however slow each of them was, are a fault that another start does not mend.
        StartLimitBurst = 5;
        StartLimitIntervalSec = 6 * (instance.startTimeout + 120);
      };
      # An agent works in it: a new version is for the next start.
      restartIfChanged = false;
      path = [
        pkgs.coreutils
        pkgs.diffutils
      ];
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
            NotifyAccess = "all";
            User = instance.user;
            Group = config.users.users.${instance.user}.group;
            SupplementaryGroups = [ "kvm" ];
            StateDirectory = "${cfg.stateDirectory}/${name}";
            StateDirectoryMode = "0700";
            CacheDirectory = "${cfg.stateDirectory}/${name}";
            CacheDirectoryMode = "0700";
            ExecStart = script name instance "run";
            ExecStop = script name instance "stop";
            # A guest that powers off by itself comes back too; `systemctl stop` is the way to end it.
            Restart = "always";
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
      # Somebody's own account is declared elsewhere, and what is said there wins.
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
