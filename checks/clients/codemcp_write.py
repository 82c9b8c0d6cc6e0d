"""Writes a file through codemcp as an agent does, and prints the answer as JSON.

codemcp has one tool with many subtools. A chat begins with InitProject, which returns an ID that every later call must
contain. The project needs a `codemcp.toml` at its root.
"""

import json
import re
import sys

import mcp_session
from mcp import ClientSession


def main() -> int:
    arguments = mcp_session.parser(__doc__.splitlines()[0])
    arguments.add_argument("--path", required=True, help="directory of the project, in the guest")
    arguments.add_argument("--file", required=True, help="file to write, relative to --path")
    arguments.add_argument("--content", required=True)
    given = arguments.parse_args()

    async def run_session(session: ClientSession) -> None:
        begun = mcp_session.text(
            await mcp_session.call(
                session,
                "codemcp",
                {
                    "subtool": "InitProject",
                    "path": given.path,
                    "user_prompt": f"Write {given.file}",
                    "subject_line": "test: write a file",
                    "reuse_head_chat_id": False,
                },
            )
        )
        chat = re.search(r"chat ID: ([\w-]+)", begun)
        if chat is None:
            raise mcp_session.ToolFailed(f"InitProject returned no chat ID: {begun[-500:]}")
        written = mcp_session.text(
            await mcp_session.call(
                session,
                "codemcp",
                {
                    "subtool": "WriteFile",
                    "path": f"{given.path.rstrip('/')}/{given.file}",
                    "content": given.content,
                    "description": f"write {given.file}",
                    "chat_id": chat.group(1),
                },
            )
        )
        # codemcp reports a failed commit in its text, not as an error.
        if "Successfully wrote" not in written or "Failed to commit" in written:
            raise mcp_session.ToolFailed(written)
        print(json.dumps({"chat_id": chat.group(1), "answer": written}, indent=2))

    return mcp_session.run(given, run_session)


if __name__ == "__main__":
    sys.exit(main())
