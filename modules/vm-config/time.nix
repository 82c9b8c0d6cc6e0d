# The clock and the time zone, both of the host.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
  inherit (policy) clock timeZone;

  nameOf = lib.removeSuffix ".service";
  clockScript = pkgs.writeShellScript clock.name clock.script;
  timeZoneScript = pkgs.writeShellScript (nameOf timeZone.unit) (
    timeZone.script { zones = "/etc/zoneinfo"; }
  );
in
{
  config = {
    services.timesyncd.enable = lib.mkDefault false;

    systemd.services.${clock.name} = {
      description = clock.unitSection.Description;
      wantedBy = [ "multi-user.target" ];
      unitConfig = { inherit (clock.unitSection) ConditionPathExists; };
      path = [ pkgs.coreutils ];
      serviceConfig = clock.service { exec = "${clockScript}"; };
    };

    systemd.services.${nameOf timeZone.unit} = {
      description = timeZone.unitSection.Description;
      wantedBy = [ "multi-user.target" ];
      before = [
        "sshd.service"
        policy.agentMcp.unit
      ];
      path = [ pkgs.coreutils ];
      serviceConfig = timeZone.service { exec = "${timeZoneScript}"; };
    };

    # A configuration's time.timeZone takes precedence.
    environment.etc = lib.mkIf (config.time.timeZone == null) {
      localtime = {
        source = timeZone.localtime;
        mode = "direct-symlink";
      };
      timezone = {
        source = timeZone.timezone;
        mode = "direct-symlink";
      };
    };
  };
}
