# The guest's clock, which a service keeps at the host's time.
rec {
  name = "agent-vm-clock";
  unit = "${name}.service";

  # QEMU's hardware clock; qemu.nix has it follow the host's clock.
  rtc = "/sys/class/rtc/rtc0";

  # For bash, with `date` on PATH.
  script = builtins.readFile ./clock.sh;

  unitSection = {
    Description = "Keep the clock at the host's time";
    ConditionPathExists = "${rtc}/since_epoch";
  };

  # The only unit that may set the clock.
  hardening =
    let
      common = import ./hardening.nix;
    in
    common
    // {
      AmbientCapabilities = "CAP_SYS_TIME";
      CapabilityBoundingSet = "CAP_SYS_TIME";
      MemoryDenyWriteExecute = true;
      ProtectClock = false;
      ProtectHome = true;
      RestrictAddressFamilies = "none";
      SystemCallFilter = common.SystemCallFilter ++ [ "@clock" ];
      UMask = "0077";
    };

  /**
    The [Service] section of the unit. `exec`: command that runs the script.
  */
  service =
    { exec }:
    hardening
    // {
      DynamicUser = true;
      ExecStart = "${exec} ${rtc}";
      Restart = "on-failure";
      RestartSec = 5;
    };
}
