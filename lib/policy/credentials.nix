# Names of the systemd credentials that the host hands over at boot.
# QEMU allows 55 characters for a fw_cfg name, of which the prefix (qemu.nix) takes 27.
{
  sshHostKey = "agent-vm.ssh-host-key";
  authorizedKeys = "agent-vm.authorized-keys";
  # Read by systemd itself.
  hostname = "system.hostname";
  # Of the proxy on the host: the authority that signs for it, and what the guest has in place of secrets.
  egressAuthority = "agent-vm.egress-ca";
  egressEnvironment = "agent-vm.egress-environment";
  logLevel = "agent-vm.log-level";
  # Of the gate before MCP: a certificate with its key, the token that lets in, and JSON with `tls`, `auth` and `hosts`.
  mcpCertificate = "agent-vm.mcp-cert";
  mcpKey = "agent-vm.mcp-key";
  mcpToken = "agent-vm.mcp-token";
  mcpEndpoint = "agent-vm.mcp-endpoint";
}
