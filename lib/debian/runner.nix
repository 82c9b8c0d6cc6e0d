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
    # init starts the others. QEMU before 8.1 may, without KVM, go on with a breakpoint that one processor has taken out of
    # the kernel's code again, and another stops at it ("Oops: int3"): the booting kernel changes its code most.
    "maxcpus=1"
    # No escape sequences: the console is a log.
    "systemd.tty.term.console=dumb"
  ]
  ++ policy.kernelParams;
}
