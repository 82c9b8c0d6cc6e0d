"""Lists the tools of an MCP server, or calls one, and prints the answer as JSON.

It uses the official Python SDK, as many MCP clients do.
"""

import json
import sys

import mcp_session
from mcp import ClientSession


def main() -> int:
    arguments = mcp_session.parser(__doc__.splitlines()[0])
    arguments.add_argument("--list", action="store_true", help="print the tools")
    arguments.add_argument("--call", nargs=2, metavar=("TOOL", "JSON"))
    given = arguments.parse_args()
    if not (given.list or given.call):
        arguments.error("missing --list or --call TOOL JSON")
    call_arguments = {}
    if given.call:
        try:
            call_arguments = json.loads(given.call[1])
        except json.JSONDecodeError as error:
            arguments.error(f"the arguments of --call are not valid JSON: {error}")

    async def run_session(session: ClientSession) -> None:
        answer = {}
        if given.list:
            tools = (await session.list_tools()).tools
            answer["tools"] = [
                tool.model_dump(mode="json", by_alias=True, exclude_none=True)
                for tool in tools
            ]
        if given.call:
            answer["result"] = await mcp_session.call(
                session, given.call[0], call_arguments
            )
        print(json.dumps(answer, indent=2, sort_keys=True))

    return mcp_session.run(given, run_session)


if __name__ == "__main__":
    sys.exit(main())
