# Kernel settings that restrict the agent's account and the guest's root.
{ lib, ... }:
let
  policy = import ../../lib/policy;
  inherit (policy) kernelModules workspace;
  # Both file systems, because the run script can start the guest with either share.
  shares = lib.concatMap (share: share.modules) (builtins.attrValues workspace.shares);
in
{
  config = {
    # Stronger than other modules, some of which set the same. A configuration can use mkForce.
    boot.kernel.sysctl = lib.mapAttrs (_: lib.mkOverride 75) policy.sysctl;
    # The kernel uses the last of two values, so a configuration's parameters come after these.
    boot.kernelParams = lib.mkBefore policy.kernelParams;
    # Loaded before modules are locked, because nothing can be loaded later.
    boot.kernelModules =
      kernelModules.systemd ++ kernelModules.firewall ++ kernelModules.memory ++ shares;
    boot.initrd.kernelModules = kernelModules.early ++ [ "nvme" ];

    # Nix's build sandbox needs user namespaces, which the guest forbids.
    nix.settings.sandbox = lib.mkDefault false;
  };
}
