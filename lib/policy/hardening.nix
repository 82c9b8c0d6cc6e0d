# Sandboxing of all services of an agent machine (systemd.exec(5)).
{
  NoNewPrivileges = true;
  CapabilityBoundingSet = "";
  AmbientCapabilities = "";
  ProtectSystem = "strict";
  PrivateTmp = true;
  PrivateDevices = true;
  PrivateIPC = true;
  ProtectProc = "invisible";
  ProcSubset = "pid";
  ProtectClock = true;
  ProtectControlGroups = true;
  ProtectHostname = true;
  ProtectKernelLogs = true;
  ProtectKernelModules = true;
  ProtectKernelTunables = true;
  RestrictNamespaces = true;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;
  RemoveIPC = true;
  KeyringMode = "private";
  LockPersonality = true;
  SystemCallArchitectures = "native";
  SystemCallFilter = [
    "@system-service"
    # Programs handle a refused priority or owner change (EPERM below) as a missing permission.
    "~@privileged @resources"
  ];
  SystemCallErrorNumber = "EPERM";
}
