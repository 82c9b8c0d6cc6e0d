"""gateway_client URL CA TOKEN: what a machine's gateway passes between its clients and a server (talkative_server.py).

It uses HTTP itself, because the order of the events, and which client gets them, is what the test is about.
"""

import http.client
import json
import ssl
import sys
import threading
import urllib.parse

DEADLINE = 120
VERSION = "2025-11-25"


class Client:
    """A client with a session."""

    def __init__(self, url: str, authority: str, token: str, root: str):
        self._url = urllib.parse.urlsplit(url)
        self._context = ssl.create_default_context(cafile=authority)
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        }
        self._root = root
        answer = self.post({"id": 0, "method": "initialize", "params": {
            "protocolVersion": VERSION,
            "capabilities": {"roots": {}},
            "clientInfo": {"name": "test", "version": "1"},
        }})
        self._headers |= {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"], "MCP-Protocol-Version": VERSION}
        self.messages(answer)
        self.post({"method": "notifications/initialized"})

    def post(self, message: dict) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection(self._url.netloc, context=self._context, timeout=DEADLINE)
        connection.request("POST", self._url.path, json.dumps({"jsonrpc": "2.0", **message}), self._headers)
        answer = connection.getresponse()
        assert answer.status in (200, 202), (answer.status, answer.read())
        return answer

    def messages(self, answer: http.client.HTTPResponse) -> list[dict]:
        """Returns the messages of a response, and answers requests of the server."""
        if answer.headers["Content-Type"] == "application/json":
            return [json.loads(answer.read())]
        found = []
        for line in answer:
            if line.startswith(b"data:") and line[5:].strip():
                message = json.loads(line[5:])
                found.append(message)
                if message.get("method") == "roots/list":
                    self.post({"id": message["id"], "result": {"roots": [{"uri": self._root}]}})
        return found

    def call(self, name: str, identity: object = 1) -> list[dict]:
        parameters = {"name": name, "arguments": {}, "_meta": {"progressToken": f"token-{name}"}}
        return self.messages(self.post({"id": identity, "method": "tools/call", "params": parameters}))


def text(messages: list[dict]) -> str:
    return messages[-1]["result"]["content"][0]["text"]


def main() -> int:
    url, authority, token_file = sys.argv[1:]
    with open(token_file) as file:
        token = file.read().strip()
    one = Client(url, authority, token, "file:///one")
    other = Client(url, authority, token, "file:///other")

    # Progress arrives in order, and before the answer.
    messages = one.call("count")
    assert [message.get("method") for message in messages] == [*["notifications/progress"] * 5, None], messages
    assert [message["params"]["progress"] for message in messages[:5]] == [1, 2, 3, 4, 5], messages

    # Each client answers the question of its own call.
    answers: dict[str, str] = {}
    both = [threading.Thread(target=lambda name=name, client=client: answers.update({name: text(client.call("ask"))}))
            for name, client in (("one", one), ("other", other))]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert answers == {"one": "file:///one", "other": "file:///other"}, answers

    # A call is cancelled while it runs; the client's other calls go on. The machine shows that the server was told.
    stream = one.post({"id": "w", "method": "tools/call", "params": {"name": "wait", "_meta": {"progressToken": "w"}}})
    next(line for line in stream if b"notifications/progress" in line)
    one.post({"method": "notifications/cancelled", "params": {"requestId": "w"}})
    assert text(one.call("echo")) == "echo"

    # A process that dies ends the calls of its client alone, with the reason.
    error = one.call("die")[-1]["error"]["message"]
    assert "exited with status 3" in error and "this is the last line" in error, error
    assert text(other.call("echo")) == "echo"
    print("all passed")
    return 0


sys.exit(main())
