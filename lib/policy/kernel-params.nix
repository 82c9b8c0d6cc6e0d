# Kernel command line of a guest on QEMU, without the parameters for its root file system.
[
  "console=ttyS0"
  # The console shows warnings and errors, so that its last lines explain a failed boot.
  "quiet"
  "loglevel=4"
  # Reboot after a panic: with the runner's -no-reboot, this ends QEMU.
  "panic=-1"
  # Some programs need random numbers before virtio-rng provides them.
  "random.trust_cpu=on"
  # Do not probe for serial ports that do not exist.
  "8250.nr_uarts=1"
  "no_timer_check"
  # On a busy host, the kernel would mark an emulated TSC as unstable and use a much slower clock source.
  "tsc=reliable"
  # systemd-ssh-generator(8): do not let sshd listen on vsock.
  "systemd.ssh_auto=no"
  # Neither kexec nor hibernation may replace the running kernel.
  "nohibernate"
  # Without bpf: systemd would build and load a BPF program for it, which takes one to two seconds.
  "lsm=lockdown,landlock,yama"
  # Not even root can load unsigned modules or change the running kernel. Debian's kernel supports this; the kernel of
  # nixpkgs ignores the parameter.
  "lockdown=integrity"
]
