# The guest's end of QEMU's user network. No gateway and no resolver: there is no way out to use them for.
{
  interface = "eth0";
  address = "10.0.2.15";
  netmask = "255.255.255.0";
  subnet = "10.0.2.0/24";
  # Written to the console once connections from the host reach the guest. Before it QEMU accepts them all the same and
  # the caller waits for nothing; each one given up afterwards costs the guest a process of sshd's.
  consoleMark = "agent-vm: network is up";
}
