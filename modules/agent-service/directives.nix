# Names of the directives for `hardening.settings`, from systemd.exec(5), systemd.resource-control(5) and systemd.kill(5) of
# systemd 258. The value is a list of values besides true and false, or null for a directive that is not a boolean.
let
  free =
    names:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = null;
      }) names
    );
  switches =
    names:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = [ ];
      }) names
    );
in
switches [
  "DynamicUser"
  "LockPersonality"
  "MemoryDenyWriteExecute"
  "MountAPIVFS"
  "NoNewPrivileges"
  "PrivateDevices"
  "PrivateIPC"
  "PrivateMounts"
  "PrivateNetwork"
  "ProtectClock"
  "ProtectKernelLogs"
  "ProtectKernelModules"
  "ProtectKernelTunables"
  "RemoveIPC"
  "RestrictRealtime"
  "RestrictSUIDSGID"
]
// {
  MemoryKSM = [ ];
  PrivateBPF = [ ];
  PrivatePIDs = [ ];
  PrivateTmp = [ "disconnected" ];
  PrivateUsers = [
    "full"
    "identity"
    "managed"
    "self"
  ];
  ProtectControlGroups = [
    "private"
    "strict"
  ];
  ProtectHome = [
    "read-only"
    "tmpfs"
  ];
  ProtectHostname = null;
  ProtectSystem = [
    "full"
    "strict"
  ];
}
// free [
  "AmbientCapabilities"
  "AppArmorProfile"
  "BindPaths"
  "BindReadOnlyPaths"
  "CPUAffinity"
  "CPUQuota"
  "CPUWeight"
  "CapabilityBoundingSet"
  "CoredumpFilter"
  "DeviceAllow"
  "DevicePolicy"
  "ExecPaths"
  "ExtensionDirectories"
  "ExtensionImages"
  "IOAccounting"
  "IOSchedulingClass"
  "IOSchedulingPriority"
  "IOWeight"
  "IPAccounting"
  "IPAddressAllow"
  "IPAddressDeny"
  "IPCNamespacePath"
  "InaccessiblePaths"
  "KeyringMode"
  "LimitAS"
  "LimitCORE"
  "LimitCPU"
  "LimitDATA"
  "LimitFSIZE"
  "LimitMEMLOCK"
  "LimitNOFILE"
  "LimitNPROC"
  "LimitRSS"
  "LimitSTACK"
  "MemoryHigh"
  "MemoryMax"
  "MemoryMin"
  "MemorySwapMax"
  "NUMAPolicy"
  "NetworkNamespacePath"
  "Nice"
  "NoExecPaths"
  "OOMPolicy"
  "OOMScoreAdjust"
  "Personality"
  "ProcSubset"
  "ProtectProc"
  "ReadOnlyPaths"
  "ReadWritePaths"
  "RestrictAddressFamilies"
  "RestrictFileSystems"
  "RestrictNamespaces"
  "RestrictNetworkInterfaces"
  "RootDirectory"
  "SELinuxContext"
  "SecureBits"
  "Slice"
  "SmackProcessLabel"
  "SocketBindAllow"
  "SocketBindDeny"
  "SupplementaryGroups"
  "SystemCallArchitectures"
  "SystemCallErrorNumber"
  "SystemCallFilter"
  "SystemCallLog"
  "TasksMax"
  "TemporaryFileSystem"
  "TimerSlackNSec"
  "UMask"
]
