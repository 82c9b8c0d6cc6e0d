# What an agent machine is, as plain data: read by the NixOS modules and by the Debian guest alike.
{
  agentMcp = import ./agent-mcp.nix;
  credentials = import ./credentials.nix;
  disk = import ./disk.nix;
  egress = import ./egress.nix;
  firewall = import ./firewall.nix;
  git = import ./git.nix;
  grammar = import ./grammar.nix;
  # Read by the programs in the guest: in policy/ beside the directory that those are in.
  guestFiles = {
    "grammar.json" = ./grammar.json;
    "mcp.json" = ./mcp.json;
  };
  journald = import ./journald.nix;
  kernelModules = import ./kernel-modules.nix;
  kernelParams = import ./kernel-params.nix;
  locale = import ./locale.nix;
  manager = import ./manager.nix;
  mcpGate = import ./mcp-gate.nix;
  network = import ./network.nix;
  ports = import ./ports.nix;
  qemu = import ./qemu.nix;
  sshd = import ./sshd.nix;
  sysctl = import ./sysctl.nix;
  tools = import ./tools.nix;
  user = import ./user.nix;
  workspace = import ./workspace.nix;
}
