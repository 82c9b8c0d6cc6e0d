# The initrd of a kernel whose root file system drivers are modules: it loads them and runs init.nix.
let
  policy = import ../policy;
  paths = import ./paths.nix;
  inherit (policy.qemu) rootDevice;
in
{
  modules = [
    "virtio_pci"
    "nvme"
    "ext4"
    # ext4 requests crc32c under another name.
    "crc32c_generic"
    # The keyboard: ctrl-alt-delete is the power-off key.
    "atkbd"
    "i8042"
  ];
  init = ''
    #!/busybox sh
    /busybox mount -n -t devtmpfs dev /dev
    exec </dev/console >/dev/console 2>&1

    for module in /modules/*; do
      /busybox insmod "$module" || echo "agent-vm: cannot load $module"
    done

    # The kernel probes disks in the background.
    tries=0
    while [ ! -b ${rootDevice} ] && [ $tries -lt 200 ]; do
      /busybox sleep 0.05
      tries=$((tries + 1))
    done

    # A first program that ends is a kernel panic, which ends QEMU.
    /busybox mount -n -t ext4 -o ro ${rootDevice} /root || exit 1
    exec /busybox switch_root /root ${paths.init} "$@"
  '';
}
