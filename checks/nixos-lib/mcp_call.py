"""mcp_call MCP-PROXY URL TOOL ARGUMENTS: calls a tool through mcp-proxy's client side and prints the text of the result.

mcp-proxy uses the official SDK's client, as many MCP clients do.
"""

import json
import subprocess
import sys
import threading

DEADLINE = 120


def main() -> int:
    bridge, url, tool, arguments = sys.argv[1:]
    transport = "sse" if url.endswith("/sse") else "streamablehttp"
    process = subprocess.Popen(
        [bridge, "--transport", transport, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    timer = threading.Timer(DEADLINE, process.kill)
    timer.start()

    def send(message: dict) -> None:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()

    def ask(identity: int, method: str, parameters: dict) -> dict:
        send({"id": identity, "method": method, "params": parameters})
        for line in process.stdout:
            message = json.loads(line)
            if message.get("id") == identity and "method" not in message:
                if "error" in message:
                    raise SystemExit(f"{method}: {message['error']}")
                return message["result"]
        raise SystemExit(f"{method}: no answer from {url}")

    try:
        client = {"name": "test", "version": "1"}
        ask(1, "initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        send({"method": "notifications/initialized"})
        tools = [entry["name"] for entry in ask(2, "tools/list", {})["tools"]]
        print("tools:", *tools)
        if tool:
            result = ask(3, "tools/call", {"name": tool, "arguments": json.loads(arguments)})
            print(*(part.get("text", "") for part in result["content"]))
        return 0
    finally:
        timer.cancel()
        process.kill()


sys.exit(main())
