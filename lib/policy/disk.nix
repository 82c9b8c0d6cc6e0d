# The machine's own disk. ext4 allows 16 characters for a label.
{
  label = "agent-vm";
  # Label of the nixos guest's read-only store.
  storeLabel = "agent-vm-store";
  fsType = "ext4";
  options = [
    "nosuid"
    "nodev"
    "noatime"
    "discard"
  ];
}
