# The machine's own disk. ext4 allows 16 characters for a label.
{
  label = "agent-vm";
  # Of the read-only store of the nixos guest.
  storeLabel = "agent-vm-store";
  fsType = "ext4";
  options = [
    "nosuid"
    "nodev"
    "noatime"
    "discard"
  ];
}
