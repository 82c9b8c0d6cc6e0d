# What the kernel must not do for the agent's account, nor for root of the guest.
{ lib, ... }:
let
  policy = import ../../lib/policy;
  inherit (policy) kernelModules workspace;
  # Both: one guest may be started with either share by the run script.
  shares = lib.concatMap (share: share.modules) (builtins.attrValues workspace.shares);
in
{
  config = {
    # Before what other modules say, some of which say the same; a machine that wants another value uses mkForce.
    boot.kernel.sysctl = lib.mapAttrs (_: lib.mkOverride 75) policy.sysctl;
    # The kernel takes the last of two: what a machine's configuration says comes after these.
    boot.kernelParams = lib.mkBefore policy.kernelParams;
    # Loaded before modules are locked; nothing can be loaded later.
    boot.kernelModules = kernelModules.systemd ++ kernelModules.firewall ++ shares;
    boot.initrd.kernelModules = kernelModules.early ++ [ "nvme" ];

    # A build sandbox is made of user namespaces; the agent builds on the host or not at all.
    nix.settings.sandbox = lib.mkDefault false;
  };
}
