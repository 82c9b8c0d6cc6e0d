# The time zone of the guest: the host's, which a credential names at boot.
let
  credentials = import ./credentials.nix;
  directory = "agent-vm-time-zone";
in
rec {
  unit = "${directory}.service";

  # Targets of /etc/localtime and /etc/timezone.
  localtime = "/run/${directory}/localtime";
  timezone = "/run/${directory}/timezone";

  unitSection = {
    Description = "Time zone of the host";
  };

  /**
    Script of the unit, without its #! line. It needs `ln` on PATH. `zones`: the time zone database.
  */
  script =
    { zones }:
    ''
      set -eu
      zone=
      if [ -e "$CREDENTIALS_DIRECTORY/${credentials.timeZone}" ]; then
        IFS= read -r zone <"$CREDENTIALS_DIRECTORY/${credentials.timeZone}" || :
      fi
      case $zone in
        "" | /* | *[!A-Za-z0-9_/+-]*) zone=UTC ;;
      esac
      # The host's database may be newer.
      [ -f "${zones}/$zone" ] || zone=UTC
      ln -sfn "${zones}/$zone" ${localtime}
      printf '%s\n' "$zone" >${timezone}
    '';

  /**
    The [Service] section of the unit. `exec`: path of the script above.
  */
  service =
    { exec }:
    {
      Type = "oneshot";
      RemainAfterExit = true;
      ImportCredential = [ credentials.timeZone ];
      RuntimeDirectory = directory;
      RuntimeDirectoryMode = "0755";
      UMask = "0022";
      ExecStart = exec;
    };
}
