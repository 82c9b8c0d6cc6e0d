# Ports inside the guest. Those on the host are the host's business.
{
  ssh = 22;
  mcp = 8000;
}
