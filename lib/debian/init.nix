# Text of the guest's first program: what must be there before systemd, in a guest without initrd and udev.
let
  policy = import ../policy;
  paths = import ./paths.nix;
  inherit (builtins) concatStringsSep;
  inherit (policy) user;
in
''
  #!/bin/sh
  # Run by the kernel; ends in systemd, in the same process.
  PATH=/usr/sbin:/usr/bin
  export PATH

  # Ends QEMU with the reason as the console's last words. Not by ending itself: the kernel's panic would come after.
  fail() {
    echo "agent-vm: $1" >/dev/console
    echo o >/proc/sysrq-trigger
    sleep 10
    exit 1
  }

  mount -n -t devtmpfs -o nosuid,mode=0755 dev /dev || fail "cannot mount /dev"
  exec </dev/console >/dev/console 2>&1
  mount -n -t proc -o nosuid,nodev,noexec proc /proc &&
    mount -n -t sysfs -o nosuid,nodev,noexec sys /sys &&
    mount -n -t tmpfs -o nosuid,nodev,mode=0755 run /run ||
    fail "cannot mount the kernel's file systems"

  modprobe -a ${concatStringsSep " " policy.kernelModules.early} || fail "cannot load the kernel's modules"

  # Mounted here and not by a unit: a journal that begins on the disk is never copied, and no unit has to wait.
  mount -n -t ${policy.disk.fsType} -o ${concatStringsSep "," policy.disk.options} ${policy.qemu.diskDevice} /var ||
    fail "cannot mount the machine's disk; 'e2fsck' on the host tells whether it is damaged"

  if [ ! -e ${paths.machineId} ]; then
    # First boot of this disk. The last step makes it complete, so that a boot cut short is done again.
    mkdir -p /var/cache /var/home /var/lib/systemd /var/log /var/spool /var/tmp ${dirOf paths.machineId} &&
      chmod 1777 /var/tmp &&
      mkdir -p /var/log/journal && chgrp systemd-journal /var/log/journal && chmod 2755 /var/log/journal &&
      ln -sfn /run /var/run && ln -sfn /run/lock /var/lock &&
      rm -rf /var/home/${user.name} && cp -a /etc/skel /var/home/${user.name} &&
      chown -R ${toString user.uid}:${toString user.gid} /var/home/${user.name} &&
      chmod 0700 /var/home/${user.name} &&
      tr -d - </proc/sys/kernel/random/uuid >${paths.machineId}.new &&
      mv ${paths.machineId}.new ${paths.machineId} ||
      fail "cannot prepare the machine's disk"
  fi
  mount -n --bind /var/home /home || fail "cannot mount /home"

  # Tells journald that the disk is there.
  mkdir -p /run/lock /run/systemd/journal && : >/run/systemd/journal/flushed

  exec /usr/lib/systemd/systemd "$@"
''
