# Text of bin/run-agent-vm of the Debian guest.
{ root, init }:
let
  policy = import ../policy;
in
import ../runner.nix {
  interpreter = "/usr/bin/env bash";
  inherit (policy.qemu) binary;
  kernel = "\"$package/vmlinux\"";
  parameters = [
    "root=${root}"
    "rootfstype=ext4"
    "ro"
    "init=${init}"
  ]
  ++ policy.kernelParams;
}
