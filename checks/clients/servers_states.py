"""Tests with the official SDK's client which notifications the gateway sends when a server starts, fails and restarts. It needs
a Python with the SDK.

    AGENT_MCP=PROGRAM python3 checks/clients/servers_states.py
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from mcp import ClientSession, McpError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamablehttp_client

AGENT_MCP = os.environ["AGENT_MCP"]
DEADLINE = 60

SERVER = """
import os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
from mcp.server.lowlevel import Server
from mcp import types
server = Server("own", "7", instructions="ask it")

@server.list_tools()
async def tools():
    return [types.Tool(name=name, inputSchema={"type": "object"}) for name in ("die", "length")]

@server.call_tool()
async def call(name, arguments):
    if name == "length":
        return [types.TextContent(type="text", text=str(len(arguments["text"])))]
    print("this is the last line", file=sys.stderr, flush=True)
    os._exit(3)

import anyio, mcp.server.stdio
async def main():
    async with mcp.server.stdio.stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())
anyio.run(main)
"""


async def until(what, condition):
    """Waits until a condition is true, and returns its value."""
    try:
        async with asyncio.timeout(DEADLINE):
            while not (found := condition()):
                await asyncio.sleep(0.05)
            return found
    except TimeoutError:
        raise SystemExit(f"error: timed out while waiting for {what}") from None


class Notifications:
    """Collects the notifications that a client gets."""

    def __init__(self):
        self.kinds = []

    async def __call__(self, message):
        if hasattr(message, "root"):
            self.kinds.append(type(message.root).__name__)

    async def wait_for(self, kind):
        await until(kind, lambda: kind in self.kinds)
        self.kinds.remove(kind)


async def scenario(transport, url, trigger, state) -> None:
    connect = streamablehttp_client(f"{url}/mcp") if transport == "http" else sse_client(f"{url}/sse")
    notifications = Notifications()
    async with connect as (read, write, *_), ClientSession(read, write, message_handler=notifications) as session:
        before = await session.initialize()
        assert state("own")["state"] == "starting", state("own")
        promised = before.capabilities
        assert promised.tools.listChanged and promised.prompts.listChanged and promised.resources.listChanged, promised

        trigger.touch()
        await notifications.wait_for("ToolListChangedNotification")
        assert [tool.name for tool in (await session.list_tools()).tools] == ["die", "length"]
        # Longer than the SDK's default limit, and nearly as long as the reverse proxy allows.
        for length in (10 << 20, (64 << 20) - 1000):
            answer = await session.call_tool("length", {"text": "x" * length})
            assert answer.content[0].text == str(length), answer
        # A capability that was announced before the server started is still served.
        assert (await session.list_prompts()).prompts == [] and (await session.list_resources()).resources == []
        # A new client gets the capabilities that the server itself announces.
        again = streamablehttp_client(f"{url}/mcp") if transport == "http" else sse_client(f"{url}/sse")
        async with again as (other_read, other_write, *_), ClientSession(other_read, other_write) as other:
            own = await other.initialize()
            assert (own.serverInfo.name, own.serverInfo.version, own.instructions) == ("own", "7", "ask it"), own
            assert own.capabilities.tools is not None and own.capabilities.prompts is None, own

        trigger.unlink()
        try:
            await session.call_tool("die", {})
        except McpError as error:
            assert "The MCP server own has failed: it exited with status 3" in error.error.message, error
        else:
            raise AssertionError("a server that has ended answers")
        await notifications.wait_for("LoggingMessageNotification")
        await until("its restart", lambda: state("own")["restarts"] > 0)
        trigger.touch()
        await notifications.wait_for("ToolListChangedNotification")
        assert (await session.list_tools()).tools
    # Requests for a server that never starts fail at once, and other servers are served.
    dead = f"{url}/servers/dead"
    connect = streamablehttp_client(f"{dead}/mcp") if transport == "http" else sse_client(f"{dead}/sse")
    async with connect as (read, write, *_), ClientSession(read, write) as session:
        await session.initialize()
        try:
            await session.list_tools()
        except McpError as error:
            assert "The MCP server dead has failed: it exited with status 1" in error.error.message, error
        else:
            raise AssertionError("a server that has failed lists tools")
    trigger.unlink()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def main() -> int:
    for transport in ("http", "sse"):
        with tempfile.TemporaryDirectory() as directory:
            home = Path(directory)
            trigger, port = home / "trigger", free_port()
            (home / "run").mkdir()
            (home / "server.py").write_text(SERVER)
            (home / "own").write_text(f"#!/bin/sh\nexec '{sys.executable}' '{home}/server.py' '{trigger}'\n")
            (home / "own").chmod(0o755)
            (home / ".mcp.json").write_text(json.dumps({"mcpServers": {"dead": {"command": "false"}}}))
            argv = [AGENT_MCP, "serve", f"--default-server=own={home}/own", f"--workspace={home}", "--servers-file=.mcp.json"]
            argv += ["--host=127.0.0.1", f"--port={port}", "--health-path=/status", "--log-level-credential=none"]
            with open(home / "log", "wb") as log:
                gateway = subprocess.Popen(argv, env={**os.environ, "RUNTIME_DIRECTORY": f"{home}/run"}, stderr=log)

            def state(name, home=home):
                states = json.loads((home / "run/servers.json").read_text())["servers"]
                return next(state for state in states if state["name"] == name)

            async def whole(transport=transport, port=port, trigger=trigger, state=state):
                url = f"http://127.0.0.1:{port}"

                def answers():
                    try:
                        return httpx.get(f"{url}/status").status_code == 200
                    except httpx.TransportError:
                        return False

                await until("the gateway", answers)
                async with asyncio.timeout(2 * DEADLINE):
                    await scenario(transport, url, trigger, state)

            try:
                asyncio.run(whole())
            except BaseException:
                sys.stderr.write((home / "log").read_text())
                raise
            finally:
                gateway.terminate()
                gateway.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
