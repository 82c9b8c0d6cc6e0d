"""Tests of reading .mcp.json: python3 -m unittest discover lib/guest/tests"""

import json
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "agent_mcp"))

import workspace_servers  # noqa: E402


class Files(unittest.TestCase):
    def read(self, content):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, ".mcp.json")
            if content is not None:
                path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
            return workspace_servers.read(path)

    def one(self, entry, name="s"):
        return self.read({"mcpServers": {name: entry, "good": {"command": "true"}}})

    def test_a_missing_file_causes_no_warning(self):
        self.assertEqual(self.read(None), ([], []))

    def test_server(self):
        os.environ["AGENT_TEST"] = "x"
        entry = {"type": "stdio", "command": "true", "args": ["${AGENT_TEST}${NO:-d}", "$5"], "env": {"A": "b"}}
        servers, warnings = self.one(entry)
        self.assertEqual(warnings, [])
        self.assertEqual((servers[0].argv, servers[0].env), (["true", "xd", "$5"], {"A": "b"}))

    def test_an_invalid_file_causes_one_warning(self):
        deep = b"[" * 200000
        large = b" " * ((1 << 20) + 1)
        for content in (b"", b"{", b"[]", b"\xff\xfe", deep, large, {"mcpServers": []}, {"mcpServers": 7}):
            servers, warnings = self.read(content)
            self.assertEqual((servers, len(warnings)), ([], 1), content[:20] if isinstance(content, bytes) else content)

    def test_an_invalid_server_causes_one_warning_and_the_others_are_served(self):
        entries = [
            None,
            [],
            {},
            {"command": ""},
            {"command": 7},
            {"command": ["true"]},
            {"command": "no-such-program"},
            {"command": "tr\0ue"},
            {"command": "true", "args": "x"},
            {"command": "true", "args": [1]},
            {"command": "true", "args": ["\ud800"]},
            {"command": "true", "env": []},
            {"command": "true", "env": {"A=B": "x"}},
            {"command": "true", "env": {"": "x"}},
            {"command": "true", "env": {"A": 1}},
            {"command": "true", "args": ["${NOT_SET_HERE}"]},
            {"type": "http", "url": "http://x"},
            {"url": "http://x"},
        ]
        for entry in entries:
            servers, warnings = self.one(entry)
            self.assertEqual(([s.name for s in servers], len(warnings)), (["good"], 1), entry)

    def test_invalid_names_cause_a_warning(self):
        for name in ("", "..", "a/b", "{x}", "a b", "-x", "x" * 65, "é", "a\n", "%2e"):
            servers, warnings = self.one({"command": "true"}, name)
            self.assertEqual(([s.name for s in servers], len(warnings)), (["good"], 1), name)

    def test_a_named_pipe_does_not_block(self):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, ".mcp.json")
            os.mkfifo(path)
            self.assertEqual(len(workspace_servers.read(path)[1]), 1)


if __name__ == "__main__":
    unittest.main()
