# The public functions of the library. They use only builtins and need no nixpkgs.
{
  /**
    The definition of an agent machine, as plain data.
  */
  policy = import ./policy;
  /**
    Returns the manifest of a Debian guest: `debianGuest { packages = [ "make" ]; share = "virtiofs"; }`.
  */
  debianGuest = import ./debian;
  /**
    Returns the manifest of any guest; see docs/reference/contract.md.
  */
  manifest = import ./manifest.nix;
  /**
    Returns the text of a systemd unit from attribute sets.
  */
  systemdUnit = import ./systemd-unit.nix;
  /**
    Alert rules for Prometheus (`alerts`, `alertsFile`) and the path of a dashboard for Grafana (`dashboard`).
  */
  monitoring = import ./monitoring;
  /**
    Returns the guest package of a NixOS agent machine. Needs nixpkgs' `nixosSystem`, which the flake passes.
  */
  mkAgentVm = import ./mk-agent-vm.nix;
  /**
    Returns a program that serves MCP servers with a development shell, on the host or in a machine. Needs nixpkgs'
    `nixosSystem`, which the flake passes.
  */
  mkMCPDevServers = import ./mk-mcp-dev-servers.nix;
}
