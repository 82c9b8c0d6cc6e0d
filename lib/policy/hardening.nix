# What no service of an agent machine needs, whichever it is.
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
    # Programs take this for an ordinary user's lack of rights: priorities, affinity and owners stay as they are.
    "~@privileged @resources"
  ];
  SystemCallErrorNumber = "EPERM";
}
