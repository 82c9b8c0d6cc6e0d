# Of the units that run machines. QEMU and virtiofsd confine themselves further, and virtiofsd needs a user namespace
# for that, with a /proc of its own: a kernel refuses that one where parts of the unit's own /proc are hidden, which is
# why ProtectKernelTunables, ProtectKernelLogs and ProtectProc are not here.
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
  ProtectHostname = true;
  ProtectKernelModules = true;
  RestrictAddressFamilies = [
    "AF_UNIX"
    "AF_INET"
    "AF_INET6"
    "AF_NETLINK"
  ];
  RestrictNamespaces = "user mnt pid net ipc uts cgroup";
  RestrictRealtime = true;
  RestrictSUIDSGID = true;
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
