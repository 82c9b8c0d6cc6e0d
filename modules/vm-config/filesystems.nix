# What the runner gives the machine: a read-only store with its own closure, its disk, and the workspace.
# `system.build.vm` and NixOS tests have file systems of their own, which take the place of these.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
  inherit (policy) disk workspace;
  share = workspace.shares.${config.agentVm.share};
in
{
  config.systemd.services.${lib.removeSuffix ".service" workspace.claimUnit} =
    lib.mkIf config.agentVm.claimWorkspace
      {
        description = "Owner of the workspace's files";
        wantedBy = [ "multi-user.target" ];
        before = [ policy.agentMcp.unit ];
        unitConfig.RequiresMountsFor = [ workspace.path ];
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = workspace.claim {
            find = lib.getExe' pkgs.findutils "find";
            chown = lib.getExe' pkgs.coreutils "chown";
          };
        };
      };

  config.fileSystems = {
    "/" = {
      device = "/dev/disk/by-label/${disk.label}";
      inherit (disk) fsType options;
    };
    "/nix/store" = {
      device = "/dev/disk/by-label/${disk.storeLabel}";
      fsType = "erofs";
      options = [ "ro" ];
      neededForBoot = true;
      noCheck = true;
    };
    ${workspace.path} = {
      device = workspace.tag;
      inherit (share) fsType options;
      noCheck = true;
    };
  };
}
