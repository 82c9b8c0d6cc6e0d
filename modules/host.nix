# services.agent-vms: a host that runs a machine for each of several branches.
{
  _class = "nixos";
  key = "agent-vm/host";
  imports = [
    ./host/options.nix
    ./host/instances.nix
    ./host/apparmor.nix
    ./host/cleanup.nix
    ./host/monitoring.nix
    ./host/assertions.nix
  ];
}
