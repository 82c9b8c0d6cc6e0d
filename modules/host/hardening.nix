# Hardening of the units that run machines. QEMU and virtiofsd get a sandbox of their own, which needs user namespaces with a
# new /proc. The kernel refuses a new /proc if parts of the unit's /proc are hidden or read-only. Therefore
# ProtectKernelTunables, ProtectKernelLogs, ProtectHostname and ProtectProc are missing here. RestrictSUIDSGID is missing
# because it blocks openat2, with which bubblewrap opens the paths that it binds.
{
  NoNewPrivileges = true;
  CapabilityBoundingSet = "";
  AmbientCapabilities = "";
  ProtectSystem = "strict";
  ProtectHome = "tmpfs";
  PrivateTmp = true;
  DevicePolicy = "closed";
  DeviceAllow = [ "/dev/kvm rw" ];
  ProtectClock = true;
  ProtectControlGroups = true;
  ProtectKernelModules = true;
  RestrictAddressFamilies = [
    "AF_UNIX"
    "AF_INET"
    "AF_INET6"
    "AF_NETLINK"
  ];
  RestrictNamespaces = "user mnt pid net ipc uts cgroup";
  RestrictRealtime = true;
  RemoveIPC = true;
  KeyringMode = "private";
  LockPersonality = true;
  SystemCallArchitectures = "native";
  SystemCallFilter = [
    "~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap"
  ];
  SystemCallErrorNumber = "EPERM";
  UMask = "0077";
}
