"""An MCP server whose tools report progress, wait to be cancelled, ask the client, and end the process."""

import json
import os
import sys
import threading

LOCK = threading.Lock()
# Events of open calls, and answers of the client, by the text of their id.
CANCELLED: dict[str, threading.Event] = {}
ANSWERS: dict[str, list] = {}


def send(message: dict) -> None:
    with LOCK:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def call(identity: object, parameters: dict) -> None:
    name, token = parameters["name"], parameters.get("_meta", {}).get("progressToken")
    text = name
    if name == "count":
        for number in range(1, 6):
            send({"method": "notifications/progress", "params": {"progressToken": token, "progress": number, "total": 5}})
    elif name == "wait":
        CANCELLED[key(identity)] = event = threading.Event()
        send({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
        event.wait()
        with open("cancelled", "w"):
            pass
        return
    elif name == "ask":
        arrived = threading.Event()
        ANSWERS["question"] = [arrived]
        send({"id": "question", "method": "roots/list"})
        arrived.wait()
        text = ANSWERS["question"][1]["roots"][0]["uri"]
    elif name == "die":
        print("this is the last line", file=sys.stderr, flush=True)
        os._exit(3)
    send({"id": identity, "result": {"content": [{"type": "text", "text": text}]}})


def key(identity: object) -> str:
    return json.dumps(identity)


for line in sys.stdin:
    message = json.loads(line)
    method, identity, parameters = message.get("method"), message.get("id"), message.get("params", {})
    if method is None:
        waiting = ANSWERS[identity]
        waiting.append(message["result"])
        waiting[0].set()
    elif method == "initialize":
        send({"id": identity, "result": {
            "protocolVersion": parameters["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "talkative", "version": "1"},
        }})
    elif method == "notifications/cancelled":
        CANCELLED[key(parameters["requestId"])].set()
    elif method == "tools/call":
        threading.Thread(target=call, args=(identity, parameters), daemon=True).start()
    elif identity is not None:
        send({"id": identity, "result": {}})
