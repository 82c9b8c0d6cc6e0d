{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  checked = import ../types { inherit lib; };
in
{
  options.services.agent-vms = {
    enable = lib.mkEnableOption "machines for coding agents, one for each declared branch";

    package = mkOption {
      type = types.package;
      default = pkgs.agent-vm or (pkgs.callPackage ../../agent-vm-rs/package.nix { });
      defaultText = lib.literalMD "agent-vm of this toolkit";
      description = "Package of the command {command}`agent-vm`, which is also on every user's PATH.";
    };

    instances = mkOption {
      type = checked.namedModules {
        module = import ./instance-options.nix { inherit lib; };
        example = "app";
        option = "repository";
      };
      default = { };
      example = lib.literalExpression ''
        {
          app = {
            repository = "/srv/git/app";
            branch = "feature/login";
            port = 8001;
          };
        }
      '';
      description = ''
        Machines of this host. Each is the unit `agent-vm-<name>.service`. Its next start applies changes of the declaration;
        a rebuild of the host does not restart it. A changed {option}`repository` or {option}`branch` creates another machine; the previous one
        is kept.
      '';
    };

    stateDirectory = mkOption {
      type = checked.checkedString {
        description = "name of a directory below /var/lib";
        example = ''"agent-vms"'';
        wrong =
          value:
          if builtins.match "[a-z][a-z0-9-]*" value != null then
            null
          else
            {
              why = "which is not a name of a directory below /var/lib: lower-case letters, digits and -";
              write =
                if builtins.match "[a-z][a-z0-9-]*" (baseNameOf value) != null then
                  builtins.toJSON (baseNameOf value)
                else
                  ''"agent-vms"'';
            };
      };
      default = "agent-vms";
      description = "Directory below {file}`/var/lib` that holds a directory for each machine.";
    };

    kvmUsers = mkOption {
      type = types.listOf checked.accountName;
      default = [ ];
      example = [ "alice" ];
      description = "Accounts that can use KVM, in addition to the machines' accounts: those of people who run {command}`agent-vm` themselves.";
    };

    apparmor.enable = mkOption {
      type = types.bool;
      default = config.security.apparmor.enable;
      defaultText = lib.literalExpression "config.security.apparmor.enable";
      description = "Whether an AppArmor profile confines the processes of each machine: agent-vm, QEMU and virtiofsd.";
    };

    cleanup = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = "Whether a timer removes machines that are no longer declared, with {command}`agent-vm prune`, which keeps commits that only they have.";
      };
      dates = mkOption {
        type = checked.calendar;
        default = "weekly";
        description = "When the timer runs, in the format of {manpage}`systemd.time(7)`.";
      };
      keepDays = mkOption {
        type = types.ints.unsigned;
        default = 30;
        description = "Days after its last change before such a machine is removed.";
      };
    };

    monitoring = {
      enable = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether timers write the metrics of each machine to {file}`/run/agent-vms-metrics/NAME/agent-vm.prom`. If
          {option}`services.prometheus.exporters.node.enable` is true, the node exporter reads these files; if
          {option}`services.prometheus.enable` is true, Prometheus gets the alert rules.
        '';
      };
      interval = mkOption {
        type = types.ints.positive;
        default = 15;
        description = "Seconds between two writings.";
      };
      dashboard = mkOption {
        type = types.path;
        readOnly = true;
        default = (import ../../lib/monitoring).dashboard;
        defaultText = lib.literalMD "the dashboard of this release";
        description = "Dashboard for Grafana, for {option}`services.grafana.provision.dashboards.settings.providers`.";
      };
    };
  };
}
