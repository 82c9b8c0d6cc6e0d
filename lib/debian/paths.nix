# Where things are in the Debian guest.
rec {
  # Debian 13's.
  pythonVersion = "3.13";
  init = "/usr/lib/agent-vm/init";
  # lib/guest/, the programs that both guests have.
  library = "/usr/lib/agent-vm/guest";
  # What they read of lib/policy/: beside them, as there.
  policy = "/usr/lib/agent-vm/policy";
  # On Python's own path, before Debian's packages.
  pythonPackages = "/usr/local/lib/python${pythonVersion}/dist-packages";
  # Python packages of the named servers, a directory each.
  serversDirectory = "/usr/local/lib/agent-vm/servers";
  # Those servers, in the format of .mcp.json.
  serversFile = "/etc/agent-mcp/servers.json";
  egressScript = "/usr/lib/agent-vm/egress";
  machineId = "/var/lib/agent-vm/machine-id";
  servicePath = "/usr/local/bin:/usr/bin:/bin";
}
