"""A minimal MCP server on a free loopback port; prints its URL when it listens."""

import socket
import sys

import uvicorn
from mcp.server.fastmcp import FastMCP

server = FastMCP("selftest")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


def main() -> None:
    http = sys.argv[1] == "http"
    app = server.streamable_http_app() if http else server.sse_app()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        # Connections wait in the socket's queue until the server accepts them.
        print(f"http://127.0.0.1:{port}/{'mcp' if http else 'sse'}", flush=True)
        # An open event stream would block a graceful shutdown forever.
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
