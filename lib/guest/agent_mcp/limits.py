"""What one message may be at most. The gate, mcp-proxy and the relays take the same, and so does `agent-vm mcp`."""

# Bytes. A tool's argument, or its answer, may hold a file.
LONGEST_MESSAGE = 64 << 20
