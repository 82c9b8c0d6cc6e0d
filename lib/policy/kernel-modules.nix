# Kernel modules to load explicitly: the guest has no udev, or locks module loading before they are needed.
{
  # Loaded before the first unit starts.
  early = [
    "virtio_blk"
    "virtio_net"
    "virtio_rng"
    "qemu_fw_cfg"
  ];
  # systemd loads it, and prints an error on the console if that fails.
  systemd = [ "autofs4" ];
  firewall = [
    "nf_tables"
    "nf_conntrack"
    "nft_ct"
    "nft_reject_inet"
  ];
  # For memory that the guest returns to the host; see qemu.nix.
  memory = [ "virtio_balloon" ];
  # For root's changes over the Debian guest's read-only image.
  writable = [ "overlay" ];
}
