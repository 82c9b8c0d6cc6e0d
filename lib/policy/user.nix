# The agent's account. It owns the workspace: the share maps its ids to the host's user.
{
  name = "dev";
  uid = 1000;
  gid = 1000;
  home = "/home/dev";
  # It may read the journal. No group here gives root privileges.
  extraGroups = [ "systemd-journal" ];
}
