# TCP ports inside the guest.
{
  ssh = 22;
  mcp = 8000;
  # Port of mcp-proxy on the guest's loopback. The reverse proxy listens on `mcp` and forwards to it.
  mcpInner = 8001;
}
