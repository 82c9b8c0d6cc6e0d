# Kernel command line of a guest on QEMU, without what names its root file system.
[
  "console=ttyS0"
  # Warnings and worse still reach the console: its last lines explain a boot that failed.
  "quiet"
  "loglevel=4"
  # The runner says -no-reboot, so that a panic ends QEMU instead of looping.
  "panic=-1"
  # The host's random bytes come over virtio-rng, but only after the first readers.
  "random.trust_cpu=on"
  # One serial port exists; probing for three more takes time.
  "8250.nr_uarts=1"
  "no_timer_check"
  # A busy host makes an emulated clock look unstable; without it every look at the time is a trap.
  "tsc=reliable"
  # systemd-ssh-generator(8): sshd listens on TCP alone.
  "systemd.ssh_auto=no"
  # A guest's kernel image and memory are not to be replaced or hibernated.
  "nohibernate"
  # The ones that are used. systemd builds and loads a BPF program for the one left out, which takes a second or two.
  "lsm=lockdown,landlock,yama"
  # The kernel takes signed code only and cannot be changed while it runs, from root either. Debian's kernel has this;
  # that of nixpkgs is built without it and ignores the parameter.
  "lockdown=integrity"
]
