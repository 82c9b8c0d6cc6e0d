"""The policy's values that these programs need, from files which agent-vm and Nix also read.

The directory policy/ is beside that of the programs' directory: in the toolkit as in both guests.
"""

import json
import os
import re

PLACE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "policy")


def load(name: str) -> dict:
    with open(os.path.join(PLACE, name), encoding="utf-8") as file:
        return json.load(file)


MCP = load("mcp.json")
# Bytes of one message, everywhere on its way. A tool's argument, or its answer, may hold a file.
LONGEST_MESSAGE: int = MCP["longestMessage"]
PATTERNS = load("grammar.json")


def grammar(name: str) -> str:
    """A pattern of grammar.json, with those that it names in their places."""
    return re.sub("<([a-z0-9_]+)>", lambda found: f"(?:{grammar(found[1])})", PATTERNS[name])
