"""Tests of agent-mcp without mcp-proxy: python3 -m unittest discover lib/guest/tests"""

import json
import os
import signal
import socket
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "agent_mcp"))

import workspace_servers  # noqa: E402
from relay import Relay  # noqa: E402

SERVER = """
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m:
        continue
    if m["method"] == "die":
        sys.exit(3)
    result = {"serverInfo": {"name": "real"}} if m["method"] == "initialize" else {"echo": m["method"]}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": result}), flush=True)
"""


class Files(unittest.TestCase):
    def read(self, content):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, ".mcp.json")
            if content is not None:
                path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
            return workspace_servers.read(path)

    def one(self, entry, name="s"):
        return self.read({"mcpServers": {name: entry, "good": {"command": "true"}}})

    def test_no_file_is_no_warning(self):
        self.assertEqual(self.read(None), ([], []))

    def test_server(self):
        os.environ["AGENT_TEST"] = "x"
        entry = {"type": "stdio", "command": "true", "args": ["${AGENT_TEST}${NO:-d}", "$5"], "env": {"A": "b"}}
        servers, warnings = self.one(entry)
        self.assertEqual(warnings, [])
        self.assertEqual((servers[0].argv, servers[0].env), (["true", "xd", "$5"], {"A": "b"}))

    def test_broken_files_are_one_warning(self):
        deep = b"[" * 200000
        large = b" " * ((1 << 20) + 1)
        for content in (b"", b"{", b"[]", b"\xff\xfe", deep, large, {"mcpServers": []}, {"mcpServers": 7}):
            servers, warnings = self.read(content)
            self.assertEqual((servers, len(warnings)), ([], 1), content[:20] if isinstance(content, bytes) else content)

    def test_broken_servers_are_one_warning_each_and_leave_the_rest(self):
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

    def test_names_that_are_no_part_of_a_url(self):
        for name in ("", "..", "a/b", "{x}", "a b", "-x", "x" * 65, "é", "a\n", "%2e"):
            servers, warnings = self.one({"command": "true"}, name)
            self.assertEqual(([s.name for s in servers], len(warnings)), (["good"], 1), name)

    def test_pipe_is_not_waited_for(self):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, ".mcp.json")
            os.mkfifo(path)
            self.assertEqual(len(workspace_servers.read(path)[1]), 1)


class Relays(unittest.TestCase):
    def setUp(self):
        # The relay's warnings are for the journal.
        self.silence = os.open(os.devnull, os.O_WRONLY)
        self.stderr = os.dup(2)
        os.dup2(self.silence, 2)

    def tearDown(self):
        os.dup2(self.stderr, 2)

    def start(self, argv, grace=10.0):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        relay = Relay(workspace_servers.Server("s", argv), Path(directory.name, "s"), "/", grace, pause=0.0)
        relay.start()
        self.addCleanup(relay.terminate, signal.SIGKILL)
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        client.connect(str(relay.path))
        self.addCleanup(client.close)
        lines = client.makefile("rb")
        self.addCleanup(lines.close)

        def ask(method, identity=1):
            client.sendall(json.dumps({"jsonrpc": "2.0", "id": identity, "method": method}).encode() + b"\n")
            return json.loads(lines.readline())

        return ask

    def test_answers_are_the_servers(self):
        ask = self.start([sys.executable, "-c", SERVER])
        self.assertEqual(ask("initialize", 7), {"jsonrpc": "2.0", "id": 7, "result": {"serverInfo": {"name": "real"}}})
        self.assertEqual(ask("tools/list", "a")["result"], {"echo": "tools/list"})

    def test_ended_server_answers_with_an_error_and_starts_again(self):
        ask = self.start([sys.executable, "-c", SERVER])
        ask("initialize")
        self.assertIn("ended with status 3", ask("die")["error"]["message"])
        self.assertEqual(ask("tools/list")["result"], {"echo": "tools/list"})

    def test_broken_servers_still_answer(self):
        for argv in (["false"], ["/"], ["sleep", "60"], ["yes"], ["cat", "/dev/zero"]):
            with self.subTest(argv):
                began = time.monotonic()
                ask = self.start(argv, grace=1.0)
                self.assertEqual(ask("initialize")["result"]["serverInfo"]["name"], "s")
                self.assertIn("error", ask("tools/list"))
                self.assertLess(time.monotonic() - began, 15)


if __name__ == "__main__":
    unittest.main()
