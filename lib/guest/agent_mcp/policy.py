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
# Maximal size of a message in bytes, at every hop. A tool argument or result may contain a file.
LONGEST_MESSAGE: int = MCP["longestMessage"]
PATTERNS = load("grammar.json")


def grammar(name: str) -> str:
    """Returns a pattern of grammar.json, with references to other patterns replaced."""
    return re.sub("<([a-z0-9_]+)>", lambda found: f"(?:{grammar(found[1])})", PATTERNS[name])
