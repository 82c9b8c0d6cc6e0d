# The agent's account. It owns the workspace: the share maps its ids to the host's user. In JSON, because agent-vm reads it too.
builtins.fromJSON (builtins.readFile ./user.json)
// {
  # It may read the journal. No group here gives root privileges.
  extraGroups = [ "systemd-journal" ];
}
