# Text of the guest's first program: it prepares what systemd needs in a guest without initrd and udev.
let
  policy = import ../policy;
  paths = import ./paths.nix;
  inherit (builtins)
    attrNames
    concatStringsSep
    map
    replaceStrings
    toString
    ;
  inherit (policy) user workspace;

  words = concatStringsSep " ";
  sysctl =
    key:
    "echo ${toString policy.sysctl.${key}} >/proc/sys/${
      replaceStrings [ "." ] [ "/" ] key
    } || warn ${key}";
in
{ share }:
let
  mount = workspace.shares.${share};
in
''
  #!/usr/bin/busybox sh
  # The kernel runs this; it executes systemd in the same process. It uses busybox and its shell's built-in commands
  # where they exist, because loading a program is slow on an emulated processor.
  PATH=/usr/bin:/usr/sbin
  export PATH

  # Ends QEMU with the reason as the last line of the console. Exiting instead would add a kernel panic.
  fail() {
    echo "agent-vm: $1" >/dev/console
    echo o >/proc/sysrq-trigger
    busybox sleep 10
    exit 1
  }

  warn() {
    echo "agent-vm: cannot set $1" >/dev/console
  }

  busybox mount -n -t devtmpfs -o nosuid,mode=0755 dev /dev || fail "cannot mount /dev"
  exec </dev/console >/dev/console 2>&1
  busybox mount -n -t proc -o nosuid,nodev,noexec proc /proc &&
    busybox mount -n -t sysfs -o nosuid,nodev,noexec sys /sys &&
    busybox mount -n -t tmpfs -o nosuid,nodev,mode=0755 run /run &&
    busybox mount -n -t tmpfs -o nosuid,nodev,mode=1777 tmp /tmp ||
    fail "cannot mount the kernel's file systems"

  # Sets the sysctls, so that systemd-sysctl need not start.
  ${concatStringsSep "\n" (map sysctl (attrNames policy.sysctl))}

  for processor in /sys/devices/system/cpu/cpu[1-9]*/online; do
    [ ! -e "$processor" ] || echo 1 >"$processor" || warn "$processor"
  done

  busybox modprobe -a ${words policy.kernelModules.early} || fail "cannot load the kernel's modules"
  # Not needed yet, so loaded in the background.
  busybox modprobe -a ${
    words (
      policy.kernelModules.systemd
      ++ policy.kernelModules.firewall
      ++ policy.kernelModules.writable
      ++ policy.kernelModules.memory
    )
  } &

  # Mounted here and not by a unit: the journal starts on the disk at once, and no unit has to wait.
  busybox mount -n -t ${policy.disk.fsType} -o ${concatStringsSep "," policy.disk.options} ${policy.qemu.diskDevice} /var ||
    fail "cannot mount the machine's disk; run e2fsck on the host to check it"

  if [ ! -e ${paths.machineId} ]; then
    # First boot of this disk. The last step marks it complete, so that an interrupted first boot is repeated.
    mkdir -p /var/cache /var/home /var/lib/systemd /var/log /var/spool /var/tmp ${dirOf paths.machineId} &&
      chmod 1777 /var/tmp &&
      mkdir -p /var/log/journal && chgrp systemd-journal /var/log/journal && chmod 2755 /var/log/journal &&
      : >/var/log/lastlog && ln -sfn /run /var/run && ln -sfn /run/lock /var/lock &&
      rm -rf /var/home/${user.name} && cp -a /etc/skel /var/home/${user.name} &&
      chown -R ${toString user.uid}:${toString user.gid} /var/home/${user.name} &&
      chmod 0700 /var/home/${user.name} &&
      tr -d - </proc/sys/kernel/random/uuid >${paths.machineId}.new &&
      mv ${paths.machineId}.new ${paths.machineId} ||
      fail "cannot prepare the machine's disk"
  fi
  busybox mount -n --bind /var/home /home || fail "cannot mount /home"

  [ ! -d ${paths.changes} ] || ${paths.writableScript} boot || echo "agent-vm: cannot mount root's changes" >/dev/console

  # If this fails, workspace.mount tries again and says why.
  busybox mount -n -t ${mount.fsType} -o ${concatStringsSep "," mount.options} ${workspace.tag} ${workspace.path} || :

  # This file makes journald write to the disk.
  busybox mkdir -p /run/lock /run/systemd/journal && : >/run/systemd/journal/flushed

  exec /usr/lib/systemd/systemd "$@"
''
