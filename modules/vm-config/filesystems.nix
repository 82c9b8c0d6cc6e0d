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
    # A host's own would be in conflict with it, where assertions.nix has more to say.
    "/" = lib.mapAttrs (_: lib.mkOverride 900) {
      device = "/dev/disk/by-label/${disk.label}";
      inherit (disk) fsType options;
    };
    "/nix/store" = {
      device = lib.mkOverride 900 "/dev/disk/by-label/${disk.storeLabel}";
      fsType = lib.mkOverride 900 "erofs";
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
