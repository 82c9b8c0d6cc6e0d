# Where things are in the Debian guest.
{
  init = "/usr/lib/agent-vm/init";
  # lib/guest/, the programs that both guests have.
  library = "/usr/lib/agent-vm/guest";
  # On Python's own path, before Debian's packages.
  pythonPackages = "/usr/local/lib/python3.13/dist-packages";
  # Python packages of the named servers, a directory each.
  serversDirectory = "/usr/local/lib/agent-vm/servers";
  # Those servers, in the format of .mcp.json.
  serversFile = "/etc/agent-mcp/servers.json";
  egressScript = "/usr/lib/agent-vm/egress";
  machineId = "/var/lib/agent-vm/machine-id";
  servicePath = "/usr/local/bin:/usr/bin:/bin";
}
