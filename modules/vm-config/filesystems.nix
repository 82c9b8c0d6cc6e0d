# The file systems that the runner provides: a read-only store with the machine's closure, its disk and the workspace.
# `system.build.vm` and NixOS tests replace them with their own.
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
        description = "Change the owner of the workspace's files";
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
    # On a host this would conflict with its own file system before the assertion explains the mistake.
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
