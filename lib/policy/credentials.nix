# Names of the systemd credentials that the host passes to the guest at boot.
# QEMU allows 55 characters for a fw_cfg name, of which the prefix (qemu.nix) takes 27.
{
  sshHostKey = "agent-vm.ssh-host-key";
  authorizedKeys = "agent-vm.authorized-keys";
  # Key of the host's owner for root. sshd reads the credential itself, and finds it by the account's name.
  rootKeys = "agent-vm.keys.root";
  # Read by systemd itself.
  hostname = "system.hostname";
  # Certificate authority of the egress proxy, and environment variables with placeholders for secrets.
  egressAuthority = "agent-vm.egress-ca";
  egressEnvironment = "agent-vm.egress-environment";
  logLevel = "agent-vm.log-level";
  # Name of the host's time zone.
  timeZone = "agent-vm.time-zone";
  # For the reverse proxy: its certificate and key, the bearer token, and its settings as JSON: `tls`, `auth` and `hosts`.
  mcpCertificate = "agent-vm.mcp-cert";
  mcpKey = "agent-vm.mcp-key";
  mcpToken = "agent-vm.mcp-token";
  mcpEndpoint = "agent-vm.mcp-endpoint";
}
