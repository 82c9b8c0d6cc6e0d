# The definition of an agent machine as plain data. The NixOS modules and the Debian guest both read it.
{
  agentMcp = import ./agent-mcp.nix;
  agents = import ./agents.nix;
  clock = import ./clock.nix;
  credentials = import ./credentials.nix;
  disk = import ./disk.nix;
  egress = import ./egress.nix;
  firewall = import ./firewall.nix;
  git = import ./git.nix;
  grammar = import ./grammar.nix;
  journald = import ./journald.nix;
  kernelModules = import ./kernel-modules.nix;
  kernelParams = import ./kernel-params.nix;
  locale = import ./locale.nix;
  manager = import ./manager.nix;
  mcpReverseProxy = import ./mcp-reverse-proxy.nix;
  namedServers = import ./named-servers.nix;
  network = import ./network.nix;
  ports = import ./ports.nix;
  qemu = import ./qemu.nix;
  sshClient = import ./ssh-client.nix;
  sshd = import ./sshd.nix;
  sysctl = import ./sysctl.nix;
  timeZone = import ./time-zone.nix;
  tools = import ./tools.nix;
  user = import ./user.nix;
  workspace = import ./workspace.nix;
}
