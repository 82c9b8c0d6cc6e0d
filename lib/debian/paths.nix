# Paths in the Debian guest.
rec {
  # The version in Debian 13.
  pythonVersion = "3.13";
  init = "/usr/lib/agent-vm/init";
  # The programs of this project that run in the guest: those in programs/.
  programs = "/usr/lib/agent-vm/programs";
  # On Python's module path, before Debian's packages.
  pythonPackages = "/usr/local/lib/python${pythonVersion}/dist-packages";
  # Packages of the predefined servers, from PyPI or npm, one directory for each.
  serversDirectory = "/usr/local/lib/agent-vm/servers";
  # Coding agents, one directory for each.
  agentsDirectory = "/usr/local/lib/agent-vm/agents";
  # Node of agents and servers.
  nodeDirectory = "/usr/local/lib/agent-vm/node";
  # List of the enabled predefined servers, in the format of .mcp.json.
  serversFile = "/etc/agent-mcp/servers.json";
  clockScript = "/usr/lib/agent-vm/clock";
  sshScript = "/usr/lib/agent-vm/ssh-connect";
  trustStoreScript = "/usr/lib/agent-vm/java-trust-store";
  egressScript = "/usr/lib/agent-vm/egress";
  timeZoneScript = "/usr/lib/agent-vm/time-zone";
  # Makes the system's directories writable for root.
  writableScript = "/usr/lib/agent-vm/writable";
  # The image's own name, and what dpkg knows of it.
  imageId = "/usr/lib/agent-vm/image-id";
  packageState = "/usr/lib/agent-vm/package-state.tar.gz";
  # Root's changes, on the machine's disk, in one directory for the image.
  changes = "/var/lib/agent-vm/changes";
  zones = "/usr/share/zoneinfo";
  machineId = "/var/lib/agent-vm/machine-id";
  servicePath = "/usr/local/bin:/usr/bin:/bin";
}
