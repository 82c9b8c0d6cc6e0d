# Modules that nothing loads by itself in a guest without udev, or that must be there before modules are locked.
{
  # Before the first unit starts.
  early = [
    "virtio_blk"
    "virtio_net"
    "virtio_rng"
    "qemu_fw_cfg"
  ];
  # Loaded by systemd, which complains on the console without it.
  systemd = [ "autofs4" ];
  firewall = [
    "nf_tables"
    "nf_conntrack"
    "nft_ct"
    "nft_reject_inet"
  ];
}
