# Every public function of the library, one line each. Plain builtins: nothing here needs nixpkgs.
{
  /**
    What an agent machine is, as plain data; one file a concern.
  */
  policy = import ./policy;
  /**
    Manifest of the embedded Debian guest: `debianGuest { packages = [ "make" ]; share = "virtiofs"; }`.
  */
  debianGuest = import ./debian;
  /**
    Manifest of any guest; see docs/reference/contract.md.
  */
  manifest = import ./manifest.nix;
  /**
    Text of a systemd unit from attribute sets.
  */
  systemdUnit = import ./systemd-unit.nix;
  /**
    Guest package of a NixOS agent machine, once it is given nixpkgs' `nixosSystem`; the flake's is.
  */
  mkAgentVm = import ./mk-agent-vm.nix;
  /**
    Program that serves a development shell's MCP servers, here or in a machine; the flake's is given `nixosSystem`.
  */
  mkMCPDevServers = import ./mk-mcp-dev-servers.nix;
}
