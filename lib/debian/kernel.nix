# The guest's Debian kernel and its modules.
{ architecture, share }:
let
  policy = import ../policy;
  inherit (policy) kernelModules workspace;
  # Debian's cloud kernel boots without an initrd, but has no 9p.
  full = share == "9p";
in
{
  package = if full then "linux-image-${architecture}" else "linux-image-cloud-${architecture}";
  modules =
    kernelModules.early
    ++ kernelModules.systemd
    ++ kernelModules.firewall
    ++ kernelModules.writable
    ++ kernelModules.memory
    ++ workspace.shares.${share}.modules;
  initrd = if full then import ./initrd.nix else null;
}
