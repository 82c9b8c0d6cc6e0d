# The guest's side of QEMU's user network. It has neither a gateway nor a resolver, because no outgoing connections exist.
{
  interface = "eth0";
  address = "10.0.2.15";
  netmask = "255.255.255.0";
  subnet = "10.0.2.0/24";
  # The guest writes this line to the console once connections from the host reach it. QEMU accepts them earlier, but they
  # hang, and each abandoned one later starts an sshd process in the guest.
  consoleMark = "agent-vm: network is up";
}
