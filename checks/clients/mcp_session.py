"""A session with an MCP server through the official Python SDK, for the commands in this directory."""

import argparse
import asyncio
import os
import shlex
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
from mcp import ClientSession, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client


def parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser with the arguments that select the server."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument(
        "--transport", choices=["http", "sse", "stdio"], required=True
    )
    arguments.add_argument("--url", help="URL of the server, for http and sse")
    arguments.add_argument(
        "--ca", metavar="FILE", help="the only certificate authority to trust"
    )
    arguments.add_argument(
        "--token-file", metavar="FILE", help="file with the bearer token"
    )
    arguments.add_argument(
        "--command", type=shlex.split, help="command of the server, quoted for a shell, for stdio"
    )
    arguments.add_argument("--timeout", type=float, default=60, metavar="SECONDS")
    return arguments


@asynccontextmanager
async def _session(given: argparse.Namespace):
    headers = {}
    if given.token_file:
        token = Path(given.token_file).read_text().strip()
        headers["Authorization"] = f"Bearer {token}"

    def client(headers=None, timeout=None, auth=None) -> httpx.AsyncClient:
        verify = ssl.create_default_context(cafile=given.ca) if given.ca else True
        return httpx.AsyncClient(
            headers=headers, timeout=timeout, auth=auth, verify=verify
        )

    if given.transport == "stdio":
        program, *words = given.command
        connection = stdio_client(
            StdioServerParameters(command=program, args=words, env=dict(os.environ))
        )
    elif given.transport == "http":
        connection = streamablehttp_client(
            given.url,
            headers,
            timedelta(seconds=given.timeout),
            httpx_client_factory=client,
        )
    else:
        connection = sse_client(
            given.url, headers, given.timeout, httpx_client_factory=client
        )
    async with connection as (read, write, *_):
        async with ClientSession(read, write) as session:
            await session.initialize()
            yield session


def run(
    arguments: argparse.Namespace, run_session: Callable[[ClientSession], Awaitable[None]]
) -> int:
    """Runs `run_session` in a session. Returns the exit status: 0 for success, 1 for a failure, 124 after a timeout."""

    if not (arguments.command if arguments.transport == "stdio" else arguments.url):
        print("error: stdio needs --command, and http and sse need --url", file=sys.stderr)
        return 2

    async def whole() -> None:
        async with _session(arguments) as s:
            await run_session(s)

    try:
        asyncio.run(asyncio.wait_for(whole(), arguments.timeout))
    except TimeoutError:
        print(f"error: no answer within {arguments.timeout:g} s", file=sys.stderr)
        return 124
    except BaseExceptionGroup as group:
        # The SDK's task groups wrap the error several times.
        print(f"error: {_first(group)!r}", file=sys.stderr)
        return 1
    except Exception as error:
        print(f"error: {error!r}", file=sys.stderr)
        return 1
    return 0


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class ToolFailed(Exception):
    """The server reported that the tool failed."""


async def call(session: ClientSession, tool: str, arguments: dict) -> dict:
    """Calls a tool; returns its result as JSON."""
    result = await session.call_tool(tool, arguments)
    answer = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    if result.isError:
        raise ToolFailed(f"{tool}: {text(answer)}")
    return answer


def text(answer: dict) -> str:
    """Returns the text parts of a tool's result."""
    return "\n".join(p["text"] for p in answer["content"] if p["type"] == "text")
