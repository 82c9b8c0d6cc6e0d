"""Connects mcp-proxy and one server, so that mcp-proxy does not see the server fail.

mcp-proxy initializes its servers one after the other before it listens, and exits if one of them fails. The relay therefore
answers `initialize` at once, in any state of the server. A request for a server that is still starting waits for a limited
time; a request for a server that has failed gets an error. When a server starts, its clients are notified that its lists
have changed.
"""

import json
import os
import socket
import threading
import time
from pathlib import Path

from process import decode, encode
from supervised import PROTOCOL, Supervised
from workspace_servers import Server

# Seconds that a request waits for a server to start: some clients give up after half a minute.
TIMEOUT = 20.0
# Maximal number of open requests to a server, of all clients.
MOST_OPEN = 1000
# An error code in the range that JSON-RPC reserves for implementations.
NOT_RUNNING = -32000
# Client name of our own proxy (proxy.py), which gets more information than plain mcp-proxy.
PROXY = "agent-mcp-proxy"
# Key under `_meta` of the answer to our proxy: the server's own answer.
SERVERS_OWN = "agent-vm/server"

LISTS = ("tools", "prompts", "resources")
# Capabilities announced for a server that has not started. All of them are served: see EMPTY and the notifications below.
PROMISED = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "logging": {},
}
# Answers for a server that lacks a capability that was announced before it started.
EMPTY = {
    "tools/list": ("tools", {"tools": []}),
    "prompts/list": ("prompts", {"prompts": []}),
    "resources/list": ("resources", {"resources": []}),
    "resources/templates/list": ("resources", {"resourceTemplates": []}),
    "resources/subscribe": ("resources", {}),
    "resources/unsubscribe": ("resources", {}),
    "logging/setLevel": ("logging", {}),
}


class Relay:
    def __init__(self, server: Server, path: Path, workspace: str, on_change=lambda state: None, timeout=TIMEOUT, **pauses):
        self.name = server.name
        self.path = path
        self._timeout = timeout
        self._report = on_change
        self._server = Supervised(server, workspace, self._from_server, self._changed, **pauses)
        self._lock = threading.Lock()
        # _lock guards the following attributes.
        self._client: socket.socket | None = None
        # Requests passed to the server, and those that wait for it: identity and line.
        self._open: dict[str, object] = {}
        self._waiting: dict[str, tuple[object, bytes, float]] = {}
        self._timers: dict[str, threading.Timer] = {}
        self._greeted = False
        self._was_running = False
        # Held while a message is written, so that messages of several threads do not mix.
        self._writing = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(os.fspath(path))
        self._listener.listen(1)

    def start(self) -> None:
        self._server.start()
        threading.Thread(target=self._serve, daemon=True).start()

    def terminate(self, *number: int) -> bool:
        """Calls Supervised.terminate."""
        return self._server.terminate(*number)

    def describe(self) -> dict:
        """Calls Supervised.describe."""
        return self._server.describe()

    # The server's side.

    def _changed(self, state: dict) -> None:
        self._report(state)
        if state["state"] == "running":
            self._came_up()
        elif state["state"] == "failed":
            self._went_down()

    def _came_up(self) -> None:
        with self._lock:
            self._was_running = True
            client, greeted = self._client, self._greeted
        for kind in LISTS if greeted else ():
            self._to_client(client, encode({"method": f"notifications/{kind}/list_changed"}))
        with self._lock:
            # Under one lock, so that a cancellation either finds its request waiting or follows it to the server.
            waiting = list(self._waiting.values())
            self._waiting.clear()
            lost = [identity for identity, line, _ in waiting if not self._send_request(identity, line)]
        for identity in lost:
            self._refuse(client, identity)

    def _went_down(self) -> None:
        with self._lock:
            was_running, self._was_running = self._was_running, False
            client = self._client
            lost = [*self._open.values(), *(identity for identity, _, _ in self._waiting.values())]
            self._open.clear()
            self._waiting.clear()
        for identity in lost:
            self._refuse(client, identity)
        if was_running:
            data = {"level": "error", "logger": "agent-mcp", "data": self._server.explain()}
            self._to_client(client, encode({"method": "notifications/message", "params": data}))

    def _from_server(self, message: dict, line: bytes) -> None:
        with self._lock:
            if "method" not in message:
                self._open.pop(key(message.get("id")), None)
            client = self._client
        self._to_client(client, line)

    # mcp-proxy's side.

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with self._lock:
                self._client, self._greeted = connection, False
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    message = decode(line)
                    if message is not None:
                        self._from_client(connection, message, line)

    def _from_client(self, client: socket.socket, message: dict, line: bytes) -> None:
        method, identity = message.get("method"), message.get("id")
        if method == "initialize":
            with self._lock:
                self._greeted = True
            self._to_client(client, encode({"id": identity, "result": self._greeting(message)}))
        elif method == "notifications/initialized":
            pass
        elif method == "notifications/cancelled" and self._cancel(message):
            pass
        elif method is None or identity is None:
            self._server.send(line)
        elif method == "ping":
            self._to_client(client, encode({"id": identity, "result": {}}))
        else:
            self._request(client, method, identity, line)

    def _request(self, client: socket.socket, method: str, identity: object, line: bytes) -> None:
        self._server.wake()
        if self._server.running:
            kind, empty = EMPTY.get(method, (None, None))
            if kind is not None and kind not in capabilities(self._server.hello):
                self._to_client(client, encode({"id": identity, "result": empty}))
                return
            self._pass_on(client, identity, line)
            return
        end = time.monotonic() + self._timeout
        with self._lock:
            room = len(self._waiting) + len(self._open) < MOST_OPEN
            if room:
                self._waiting[key(identity)] = (identity, line, end)
        if not room:
            self._refuse(client, identity)
        elif self._server.failed:
            self._give_up(client, identity, end)
        elif self._server.running:
            # The server may have started before the request was queued.
            with self._lock:
                waited = self._waiting.pop(key(identity), None)
            if waited is not None:
                self._pass_on(client, identity, line)
        else:
            timer = threading.Timer(self._timeout, self._give_up, args=(client, identity, end))
            timer.daemon = True
            with self._lock:
                self._timers[key(identity)] = timer
            timer.start()

    def _pass_on(self, client: socket.socket | None, identity: object, line: bytes) -> None:
        with self._lock:
            sent = self._send_request(identity, line)
        if not sent:
            self._refuse(client, identity)

    def _send_request(self, identity: object, line: bytes) -> bool:
        """Sends the server a request, and records it as open. Returns whether it did. The lock must be held."""
        if len(self._open) >= MOST_OPEN:
            return False
        self._open[key(identity)] = identity
        # If the server fails after this check, _went_down refuses the request.
        if self._server.send(line) and not self._server.failed:
            return True
        del self._open[key(identity)]
        return False

    def _give_up(self, client: socket.socket, identity: object, end: float) -> None:
        """Answers a request with an error, if it is still the one that waits until `end`."""
        with self._lock:
            self._timers.pop(key(identity), None)
            waiting = self._waiting.get(key(identity))
            if waiting is None or waiting[2] != end:
                return
            del self._waiting[key(identity)]
        self._refuse(client, identity)

    def _cancel(self, message: dict) -> bool:
        """
        Forgets a request that a client cancels, because it gets no answer. Returns whether it still waited for the server, which
        then does not get it.
        """
        parameters = message.get("params")
        identity = parameters.get("requestId") if isinstance(parameters, dict) else None
        with self._lock:
            self._open.pop(key(identity), None)
            waited = self._waiting.pop(key(identity), None) is not None
            timer = self._timers.pop(key(identity), None) if waited else None
        if timer is not None:
            timer.cancel()
        return waited

    def _greeting(self, request: dict) -> dict:
        """Returns the answer to `initialize`: the server's own or, before it runs, a stand-in. Lists may change with each start."""
        hello = self._server.hello
        stand_in = {
            "protocolVersion": PROTOCOL,
            "capabilities": PROMISED,
            "serverInfo": {"name": self.name, "version": "0"},
        }
        parameters = request.get("params")
        introduced = parameters.get("clientInfo") if isinstance(parameters, dict) else None
        if isinstance(introduced, dict) and introduced.get("name") == PROXY:
            # The proxy passes the server's own answer to clients; requests for announced capabilities are answered anyway.
            return {**stand_in, "_meta": {SERVERS_OWN: None if hello is None else with_notifications(hello)}}
        return stand_in if hello is None else with_notifications(hello)

    def _refuse(self, client: socket.socket | None, identity: object) -> None:
        error = {"code": NOT_RUNNING, "message": self._server.explain(), "data": self._server.describe()}
        self._to_client(client, encode({"id": identity, "error": error}))

    def _to_client(self, client: socket.socket | None, line: bytes) -> None:
        if client is None:
            return
        try:
            with self._writing:
                client.sendall(line)
        except OSError:
            # mcp-proxy has ended, and the service with it.
            pass


def capabilities(hello: dict | None) -> dict:
    found = (hello or {}).get("capabilities")
    return {kind: value for kind, value in found.items() if isinstance(value, dict)} if isinstance(found, dict) else {}


def with_notifications(hello: dict) -> dict:
    """Returns a server's answer to `initialize`, with change notifications for its lists and logging added."""
    own = capabilities(hello)
    changing = {kind: {**own[kind], "listChanged": True} for kind in LISTS if kind in own}
    return {**hello, "capabilities": {**own, **changing, "logging": own.get("logging", {})}}


def key(identity: object) -> str:
    """Returns a request's id as a key: ids are numbers or strings, and 1 is not "1"."""
    return json.dumps(identity)
