"""Tests of the relay with processes as servers: python3 -m unittest discover lib/guest/tests"""

import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "agent_mcp"))

import relay as relay_module  # noqa: E402
from relay import PROXY, SERVERS_OWN, Relay  # noqa: E402
from workspace_servers import Server  # noqa: E402

# A server that answers `initialize` once the file in its argument exists, and exits on `die`.
SERVER = """
import json, os, sys, time
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m:
        continue
    if m["method"] == "initialize":
        while len(sys.argv) > 1 and not os.path.exists(sys.argv[1]):
            time.sleep(0.01)
        result = {"serverInfo": {"name": "real", "version": "7"}, "capabilities": {"tools": {}}, "protocolVersion": "2025-06-18"}
    elif m["method"] == "die":
        print("the last words\\x1b[31m", file=sys.stderr)
        sys.exit(3)
    elif m["method"] == "hang":
        continue
    else:
        result = {"echo": m["method"]}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": result}), flush=True)
"""
# Seconds to wait for an expected event.
DEADLINE = 20


class Client:
    """A client of the relay, in place of mcp-proxy."""

    def __init__(self, test, relay):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE)
        self._socket.connect(str(relay.path))
        self._lines = self._socket.makefile("rb")
        test.addCleanup(self._socket.close)
        test.addCleanup(self._lines.close)
        self.notifications = []
        self.answers = {}

    def send(self, **message):
        self._socket.sendall(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def next(self):
        return json.loads(self._lines.readline())

    def answer(self, identity):
        """Returns the answer to a request, and stores the messages received before it."""
        while identity not in self.answers:
            self.keep(self.next())
        return self.answers.pop(identity)

    def keep(self, message):
        if "method" in message:
            self.notifications.append(message)
        else:
            self.answers[message["id"]] = message

    def ask(self, method, identity=1, **params):
        self.send(id=identity, method=method, params=params)
        return self.answer(identity)

    def wait_for(self, method):
        """Waits for a notification with this method, and returns it."""
        while True:
            for message in self.notifications:
                if message["method"] == method:
                    self.notifications.remove(message)
                    return message
            self.keep(self.next())


class Relays(unittest.TestCase):
    def setUp(self):
        # The relay writes warnings to standard error.
        self.stderr = os.dup(2)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 2)
        os.close(silence)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.states = []

    def tearDown(self):
        os.dup2(self.stderr, 2)
        os.close(self.stderr)

    def start(self, argv, **options):
        options = {"pauses": (0.0,), "spacing": 0.0, **options}
        relay = Relay(Server("s", argv), self.directory / "s", "/", self.states.append, **options)
        relay.start()
        self.addCleanup(relay.terminate, signal.SIGKILL)
        return relay, Client(self, relay)

    def wait_until(self, what, condition):
        end = time.monotonic() + DEADLINE
        while not condition():
            self.assertLess(time.monotonic(), end, f"waited for {what}")
            time.sleep(0.01)

    def start_delayed(self, **options):
        """Starts a server that runs once the file `self.trigger` exists."""
        self.trigger = self.directory / "trigger"
        return self.start([sys.executable, "-c", SERVER, str(self.trigger)], **options)

    def test_answers_come_from_the_server(self):
        relay, client = self.start([sys.executable, "-c", SERVER])
        self.wait_until("the server", lambda: relay.describe()["state"] == "running")
        hello = client.ask("initialize", 7)["result"]
        self.assertEqual(hello["serverInfo"], {"name": "real", "version": "7"})
        self.assertEqual(hello["capabilities"]["tools"], {"listChanged": True})
        self.assertEqual(client.ask("tools/list", "a")["result"], {"echo": "tools/list"})

    def test_initialize_is_answered_at_once_and_clients_are_notified_when_the_server_runs(self):
        relay, client = self.start_delayed()
        hello = client.ask("initialize")["result"]
        self.assertEqual(relay.describe()["state"], "starting")
        self.assertEqual(hello["capabilities"]["tools"], {"listChanged": True})
        self.trigger.touch()
        for kind in ("tools", "prompts", "resources"):
            client.wait_for(f"notifications/{kind}/list_changed")
        self.assertEqual(client.ask("initialize", 2)["result"]["serverInfo"]["name"], "real")

    def test_capabilities_announced_before_the_start_are_served(self):
        _, client = self.start_delayed()
        promised = client.ask("initialize")["result"]["capabilities"]
        self.trigger.touch()
        client.wait_for("notifications/tools/list_changed")
        # Control: the server itself has only tools.
        self.assertEqual(client.ask("tools/list", 2)["result"], {"echo": "tools/list"})
        for kind, method, empty in (
            ("prompts", "prompts/list", {"prompts": []}),
            ("resources", "resources/list", {"resources": []}),
            ("resources", "resources/templates/list", {"resourceTemplates": []}),
            ("logging", "logging/setLevel", {}),
        ):
            self.assertIn(kind, promised)
            self.assertEqual(client.ask(method, method)["result"], empty)

    def test_our_proxy_gets_the_servers_own_answer(self):
        _, client = self.start_delayed()
        introduced = {"clientInfo": {"name": PROXY, "version": "1"}}
        self.assertIsNone(client.ask("initialize", **introduced)["result"]["_meta"][SERVERS_OWN])
        self.trigger.touch()
        client.wait_for("notifications/tools/list_changed")
        hello = client.ask("initialize", 2, **introduced)["result"]
        self.assertEqual(hello["_meta"][SERVERS_OWN]["capabilities"], {"tools": {"listChanged": True}, "logging": {}})
        # The announced capabilities stay the same, because the server's own may differ after its next start.
        self.assertEqual(hello["capabilities"], relay_module.PROMISED)

    def test_requests_for_a_server_that_is_starting_wait_and_then_get_an_error(self):
        _, client = self.start_delayed(timeout=0.5)
        began = time.monotonic()
        client.send(id=1, method="tools/list")
        client.send(id=2, method="tools/list")
        # The requests wait at the same time.
        errors = [client.answer(1)["error"], client.answer(2)["error"]]
        self.assertLess(time.monotonic() - began, 5)
        for error in errors:
            self.assertIn("The MCP server s is still starting", error["message"])
            self.assertIn("agent-vm logs", error["message"])
            self.assertEqual((error["data"]["name"], error["data"]["state"]), ("s", "starting"))
        # Control: once the server runs, it answers.
        self.trigger.touch()
        self.wait_until("the server", lambda: self.states[-1]["state"] == "running")
        self.assertEqual(client.ask("tools/list", 3)["result"], {"echo": "tools/list"})

    def test_a_waiting_request_is_answered_when_the_server_runs(self):
        _, client = self.start_delayed()
        client.send(id=1, method="tools/list")
        client.send(id=2, method="tools/call")
        self.trigger.touch()
        self.assertEqual(client.answer(1)["result"], {"echo": "tools/list"})
        self.assertEqual(client.answer(2)["result"], {"echo": "tools/call"})

    def test_a_waiting_request_that_is_cancelled_does_not_reach_the_server(self):
        _, client = self.start_delayed()
        client.send(id=1, method="tools/list")
        client.send(id=2, method="tools/call")
        client.send(method="notifications/cancelled", params={"requestId": 2})
        # The relay has read the cancellation once it answers the next message.
        client.ask("ping", 3)
        self.trigger.touch()
        # Control: the other request is answered.
        self.assertEqual(client.answer(1)["result"], {"echo": "tools/list"})
        client.ask("tools/call", 4)
        self.assertNotIn(2, client.answers)

    def test_a_cancellation_while_waiting_requests_are_passed_on_does_not_overtake_its_request(self):
        relay, client = self.start_delayed()
        sent = []
        send, to_client = relay._server.send, relay._to_client

        def cancel(identity):
            message = {"method": "notifications/cancelled", "params": {"requestId": identity}}
            relay._from_client(relay._client, message, relay_module.encode(message))

        def cancel_before(connection, line):
            if b"tools/list_changed" in line:
                cancel(1)
            to_client(connection, line)

        def cancel_meanwhile(line):
            message = json.loads(line)
            if message.get("id") == 2:
                thread = threading.Thread(target=cancel, args=(3,))
                thread.start()
                self.addCleanup(thread.join)
                # The cancellation may wait for the requests.
                thread.join(0.5)
            sent.append(message.get("id") or message["params"]["requestId"])
            return send(line)

        relay._server.send, relay._to_client = cancel_meanwhile, cancel_before
        client.ask("initialize", "hello")
        for identity in (1, 2, 3):
            client.send(id=identity, method="tools/call")
        client.ask("ping", "all are read")
        self.trigger.touch()
        client.answer(2)
        self.wait_until("the cancellation", lambda: len(sent) == 3)
        # Request 1 no longer waits; request 3 and then its cancellation reach the server.
        self.assertEqual(sent, [2, 3, 3])

    def test_cancelled_requests_leave_nothing(self):
        relay, client = self.start_delayed()
        client.ask("ping", "first")
        threads = threading.active_count()
        for identity in range(100):
            client.send(id=identity, method="tools/list")
            client.send(method="notifications/cancelled", params={"requestId": identity})
        client.ask("ping", "second")
        self.wait_until("the timers to end", lambda: threading.active_count() <= threads)
        self.trigger.touch()
        self.wait_until("the server", lambda: self.states[-1]["state"] == "running")
        client.send(id=1, method="hang")
        client.ask("tools/list", 2)
        # Control: the request is open until it is cancelled.
        self.assertEqual(list(relay._open.values()), [1])
        client.send(method="notifications/cancelled", params={"requestId": 1})
        client.ask("tools/list", 3)
        self.assertEqual(relay._open, {})

    def test_open_requests_get_an_error_when_the_server_ends_and_it_is_restarted(self):
        _, client = self.start([sys.executable, "-c", SERVER])
        client.ask("initialize")
        self.wait_until("the server", lambda: self.states and self.states[-1]["state"] == "running")
        client.send(id="open", method="hang")
        client.send(id="last", method="die")
        for identity in ("open", "last"):
            error = client.answer(identity)["error"]
            self.assertEqual(error["code"], relay_module.NOT_RUNNING)
        self.assertEqual(client.wait_for("notifications/message")["params"]["level"], "error")
        # The server restarts without a request.
        client.wait_for("notifications/tools/list_changed")
        self.assertEqual(client.ask("tools/list")["result"], {"echo": "tools/list"})
        failed = next(state for state in self.states if state["state"] == "failed")
        self.assertEqual((failed["exit_code"], failed["signal"]), (3, None))
        self.assertEqual(failed["last_line"].split("\x1b")[0], "the last words")
        self.assertEqual(self.states[-1], {**self.states[-1], "state": "running", "restarts": 1, "last_line": None})

    def test_requests_for_a_failed_server_get_an_error_at_once(self):
        relay, client = self.start([sys.executable, "-c", SERVER], pauses=(60.0,), spacing=60.0)
        self.wait_until("the server", lambda: relay.describe()["state"] == "running")
        os.kill(relay._server._process._popen.pid, signal.SIGKILL)
        self.wait_until("its end", lambda: relay.describe()["state"] == "failed")
        began = time.monotonic()
        error = client.ask("tools/list")["error"]
        self.assertLess(time.monotonic() - began, 5)
        self.assertIn("The MCP server s has failed: it was ended by signal 9", error["message"])
        self.assertEqual(relay.describe()["signal"], 9)

    def test_a_request_restarts_a_server_that_failed_earlier(self):
        relay, client = self.start([sys.executable, "-c", SERVER], pauses=(60.0,), spacing=0.0)
        client.ask("die")
        self.wait_until("its end", lambda: relay.describe()["state"] == "failed")
        self.assertEqual(client.ask("tools/list")["result"], {"echo": "tools/list"})

    def test_pauses_between_restarts_grow(self):
        relay, _ = self.start(["false"], pauses=(0.0, 0.0, 60.0))
        self.wait_until("the third failure", lambda: [s["state"] for s in self.states].count("failed") == 3)
        # Control: without growing pauses, a server fails more often in the same time.
        failures = []
        other = Relay(
            Server("o", ["false"]), self.directory / "o", "/", lambda s: failures.append(s["state"]), pauses=(0.0,)
        )
        other.start()
        self.addCleanup(other.terminate, signal.SIGKILL)
        self.wait_until("more failures", lambda: failures.count("failed") > 10)
        self.assertEqual(relay.describe()["restarts"], 2)

    def test_broken_servers_still_answer(self):
        for number, argv in enumerate((["false"], ["/"], ["sleep", "60"], ["yes"], ["cat", "/dev/zero"])):
            with self.subTest(argv):
                relay = Relay(Server("s", argv), self.directory / str(number), "/", timeout=0.5)
                relay.start()
                self.addCleanup(relay.terminate, signal.SIGKILL)
                client = Client(self, relay)
                began = time.monotonic()
                self.assertEqual(client.ask("initialize")["result"]["serverInfo"]["name"], "s")
                self.assertLess(time.monotonic() - began, 5)
                self.assertIn("error", client.ask("tools/list"))
                self.assertLess(time.monotonic() - began, 15)


if __name__ == "__main__":
    unittest.main()
