# Text of bin/run-agent-vm of the Debian guest.
{ init, initrd }:
let
  policy = import ../policy;
in
import ../runner.nix {
  interpreter = "/usr/bin/env bash";
  kernel = "\"$package/vmlinux\"";
  initrd = if initrd then "\"$package/initrd\"" else null;
  parameters = [
    "root=${policy.qemu.rootDevice}"
    "rootfstype=ext4"
    "ro"
    "init=${init}"
    # Boot with one processor; init enables the others. QEMU before 8.1 without KVM may execute a breakpoint that the kernel
    # has already removed from its code ("Oops: int3"). The kernel patches its code mostly while it boots.
    "maxcpus=1"
    # No escape sequences: the console is a log.
    "systemd.tty.term.console=dumb"
  ]
  ++ policy.kernelParams;
}
