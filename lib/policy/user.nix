# The one account that agents use. It owns the workspace, so its ids are what the share maps to the host's user.
{
  name = "dev";
  uid = 1000;
  gid = 1000;
  home = "/home/dev";
  # Reads the journal of its own service; nothing here leads to root.
  extraGroups = [ "systemd-journal" ];
}
