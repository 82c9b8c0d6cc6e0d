# TCP ports inside the guest: `ssh`; `mcp`, on which the reverse proxy listens; `mcpInner`, the gateway's port on the guest's
# loopback; `egress`, the port on the loopback that leads to the host's proxy. In JSON, because agent-vm reads them too.
builtins.fromJSON (builtins.readFile ./ports.json)
