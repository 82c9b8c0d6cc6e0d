# Ports inside the guest. Those on the host are the host's business.
{
  ssh = 22;
  mcp = 8000;
  # Of mcp-proxy itself, on the guest's loopback: what comes in passes the gate on `mcp`.
  mcpInner = 8001;
}
