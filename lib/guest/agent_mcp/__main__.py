"""agent-mcp: serves the MCP servers of a workspace through mcp-proxy. See serve.py and reverse_proxy.py."""

# Compiled at every start, unlike the modules: nothing else belongs here.
import sys

if sys.argv[1:2] == ["connect"]:
    from connect import main
elif sys.argv[1:2] == ["reverse-proxy"]:
    from reverse_proxy import main
elif sys.argv[1:2] == ["proxy"]:
    from proxy import main
else:
    from serve import main

sys.exit(main(sys.argv[2:]))
