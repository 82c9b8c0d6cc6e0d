# Of the units that run machines. QEMU and virtiofsd confine themselves further, and need user namespaces with a /proc of
# their own for that. A kernel refuses that one where parts of the unit's own /proc are hidden or read-only, which is why
# ProtectKernelTunables, ProtectKernelLogs, ProtectHostname and ProtectProc are not here. Nor is RestrictSUIDSGID: it takes
# openat2 away, by which bubblewrap opens what it binds.
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
