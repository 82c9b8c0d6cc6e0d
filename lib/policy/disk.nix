# The machine's own disk. ext4 allows 16 characters for a label.
{
  label = "agent-vm";
  fsType = "ext4";
  options = [
    "nosuid"
    "nodev"
    "noatime"
    "discard"
  ];
}
