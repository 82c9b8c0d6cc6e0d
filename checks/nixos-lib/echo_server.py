"""An MCP server with one tool that writes a file, so that a test sees its effect."""

import json
import os
import sys

TOOL = {
    "name": "write",
    "description": "Write a file of the workspace",
    "inputSchema": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "text": {"type": "string"}},
        "required": ["path", "text"],
    },
}


def answer(method: str, parameters: dict) -> dict:
    if method == "initialize":
        return {
            "protocolVersion": parameters["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "echo", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        arguments = parameters["arguments"]
        with open(arguments["path"], "w") as file:
            file.write(arguments["text"])
        return {"content": [{"type": "text", "text": f"wrote {arguments['path']} as {os.getuid()}"}]}
    return {}


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message and "method" in message:
        result = answer(message["method"], message.get("params", {}))
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
