"""A stand-in for an MCP server on standard input and output: `python3 stand_in.py ERA[-HABIT] [FILE]`. ERA is `old`, `new` or
`both`; HABIT is what the server does with a `ping` that comes before `initialize` (`ends`, `refuses`, `waits`), `works`: it uses
the processor and answers nothing before FILE.go exists, `keeps`: it keeps to the era of its first message, `discovers`: it ends
at `server/discover`, and answers `initialize` only once FILE.go exists, `hangs`: it reads nothing after `server/discover`,
`fails`: it ends at `initialize`, `alone`: the same once another process of it was initialized, `confuses`: it answers `initialize` with another identity, `strays`: it answers a `ping`
thrice, once rightly, `lags`: it answers that after `initialize`, or `asks`: it reads nothing before the client has answered its `ping`, and a request for roots. With FILE,
each start is written to it, and the server answers nothing before FILE.go exists if FILE.wait does."""

import json
import os
import sys
import threading
import time

ERA, _, HABIT = sys.argv[1].partition("-")
FILE = sys.argv[2] if len(sys.argv) > 2 else None
NEW = "2026-07-28"
META = "io.modelcontextprotocol/"
CAPABILITIES = {"tools": {"listChanged": True}, "prompts": {"listChanged": True}, "resources": {"subscribe": True}, "logging": {}}
NAME = {"name": "stand-in", "version": "7"}
lock = threading.Lock()
asked = {}
cancelled = {}
listening = {}
subscribed = set()
last = 0
calls = 0
client = {}
level = None
lagging = None


def send(**message):
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def notify(method, **params):
    send(method=method, params=params)


def changed(method, **params):
    """Sends a notification of a change; in the new era, one to each subscription."""
    if not listening:
        return notify(method, **params)
    for identity in listening:
        notify(method, _meta={META + "subscriptionId": identity}, **params)


def ask(method, params):
    """Asks the client, and waits for its answer."""
    global last
    last += 1
    done = threading.Event()
    asked[last] = [done, None]
    send(id=last, method=method, params=params)
    done.wait()
    return asked.pop(last)[1]


def call(message, modern):
    identity, params = message["id"], message["params"]
    name, given = params["name"], params.get("arguments", {})
    meta = params.get("_meta", {})
    text = None
    if name == "progress":
        for number in range(given["count"]):
            notify("notifications/progress", progressToken=meta["progressToken"], progress=number, message=given.get("text", ""))
        text = "done"
    elif name == "large":
        text = "x" * given["size"]
    elif name == "process":
        text = str(os.getpid())
    elif name == "count":
        global calls
        calls += 1
        text = str(calls)
    elif name == "die":
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)
    elif name == "noise":
        sys.stdout.write("noise\n" * given["lines"])
        text = "noise"
    elif name == "endless":
        while True:
            sys.stdout.write("x" * (1 << 20))
    elif name == "wait":
        done = cancelled.setdefault(json.dumps(identity), threading.Event())
        notify("notifications/progress", progressToken=meta["progressToken"], progress=0)
        done.wait()
        with open(given["file"], "w") as file:
            file.write("cancelled")
        return None
    elif name == "hang":
        time.sleep(1000)
    elif name == "log":
        notify("notifications/message", level=given["level"], data=given["data"])
        text = "logged"
    elif name == "changes":
        for kind in ("tools", "prompts"):
            changed(f"notifications/{kind}/list_changed")
        changed("notifications/resources/updated", uri=given.get("uri", "x:/y"))
        text = "changed"
    elif name == "ask" and not modern:
        answer = ask(given["method"], given.get("params", {}))
        text = json.dumps(answer.get("result", answer.get("error")), sort_keys=True)
    elif name == "ask":
        inputs = params.get("inputResponses")
        if inputs is None:
            request = {"method": given["method"], "params": given.get("params", {})}
            return {"resultType": "input_required", "inputRequests": {"key": request}, "requestState": "state-1"}
        assert params["requestState"] == "state-1", params
        text = json.dumps(inputs["key"], sort_keys=True)
    elif name == "capabilities":
        text = json.dumps(meta.get(META + "clientCapabilities") if modern else client.get("capabilities"), sort_keys=True)
    elif name == "meta":
        text = json.dumps(meta, sort_keys=True)
    elif name == "subscribed":
        text = json.dumps(sorted(subscribed))
    elif name == "level":
        text = json.dumps(meta.get(META + "logLevel") if modern else level)
    else:
        text = json.dumps(given, sort_keys=True)
    return {"content": [{"type": "text", "text": text}], **({"resultType": "complete"} if modern else {})}


def answer(message):
    global client, level
    method, identity, params = message["method"], message["id"], message.get("params") or {}
    modern = META + "protocolVersion" in (params.get("_meta") or {}) and ERA != "old"
    complete = {"resultType": "complete"} if modern else {}
    if not modern and ERA == "new":
        return send(id=identity, error={"code": -32602, "message": "only 2026-07-28"})
    if method == "server/discover" and modern:
        result = {"supportedVersions": [NEW], "capabilities": CAPABILITIES, "instructions": "ask", "ttlMs": 5, "cacheScope": "public", "_meta": {META + "serverInfo": NAME}, **complete}
    elif method == "initialize":
        client = params
        asked_for = params["protocolVersion"]
        version = asked_for if asked_for in ("2025-11-25", "2025-06-18", "2025-03-26") else "2025-11-25"
        result = {"protocolVersion": version, "capabilities": CAPABILITIES, "serverInfo": NAME, "instructions": "ask"}
    elif method == "tools/call":
        result = call(message, modern)
        if result is None:
            return None
    elif method == "tools/list":
        result = {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}], **complete}
        if modern:
            result |= {"ttlMs": 7, "cacheScope": "public"}
    elif method == "completion/complete":
        result = {"completion": {"values": [params["argument"]["value"] + "!"]}, **complete}
    elif method == "logging/setLevel":
        level = params["level"]
        result = {}
    elif method in ("resources/subscribe", "resources/unsubscribe"):
        (subscribed.add if method == "resources/subscribe" else subscribed.discard)(params["uri"])
        result = {}
    elif method == "ping" and not modern:
        result = {}
    elif method == "resources/read":
        return send(id=identity, error={"code": -32002, "message": "not found"})
    elif method == "x/echo":
        result = params
    elif method == "subscriptions/listen" and modern:
        listening[identity] = True
        subscribed.update(params["notifications"].get("resourceSubscriptions", []))
        return notify("notifications/subscriptions/acknowledged", _meta={META + "subscriptionId": identity}, notifications=params["notifications"])
    else:
        return send(id=identity, error={"code": -32601, "message": f"unknown method {method}"})
    return send(id=identity, result=result)


def is_refused(message):
    """Treats a request as the server's habit is; returns whether that is all."""
    global ERA, HABIT, lagging
    if HABIT == "keeps":
        ERA, HABIT = "new" if META + "protocolVersion" in message.get("params", {}).get("_meta", {}) else "old", ""
    elif HABIT == "hangs" and message["method"] == "server/discover":
        time.sleep(1000)
    elif HABIT == "discovers":
        if message["method"] == "server/discover":
            os._exit(6)
        while message["method"] == "initialize" and not os.path.exists(FILE + ".go"):
            time.sleep(0.01)
        return message["method"] == "ping"
    elif message["method"] == "ping" and HABIT == "lags":
        lagging = message
        return True
    elif message["method"] == "initialize":
        if HABIT == "lags":
            answer(message)
            answer(lagging)
            return True
        if HABIT == "fails" or (HABIT == "alone" and os.path.exists(FILE + ".one")):
            os._exit(6)
        if HABIT == "alone":
            open(FILE + ".one", "w").close()
        if HABIT == "confuses":
            message["id"] = "other"
        HABIT = ""
    elif message["method"] == "ping" and HABIT == "works":
        while not os.path.exists(FILE + ".go"):
            pass
        HABIT = ""
    elif message["method"] == "ping" and HABIT in ("ends", "refuses", "strays", "waits"):
        if HABIT == "ends":
            os._exit(4)
        if HABIT == "strays":
            send(id=None, error={"code": -32600, "message": "stray"})
            send(id=message["id"], result={})
            send(id=message["id"], result={"stray": True})
        if HABIT == "refuses":
            send(id=message["id"], error={"code": -32600, "message": "initialize first"})
        return True
    return False


def asking(lines):
    """Asks the client, and returns its messages once it has answered."""
    send(id="early-ping", method="ping")
    send(id="early-roots", method="roots/list")
    held, missing = [], {"early-ping", "early-roots"}
    for line in lines:
        message = json.loads(line)
        if "method" in message:
            held.append(line)
        else:
            missing.discard(message["id"])
        if not missing:
            yield from held
            held.clear()


def main():
    if FILE:
        with open(FILE, "a") as file:
            file.write(f"{os.getpid()}\n")
        while os.path.exists(FILE + ".wait") and not os.path.exists(FILE + ".go"):
            time.sleep(0.01)
    for line in asking(sys.stdin) if HABIT == "asks" else sys.stdin:
        message = json.loads(line)
        if "method" not in message:
            waiting = asked.get(message["id"])
            if waiting:
                waiting[1] = message
                waiting[0].set()
        elif "id" in message:
            if is_refused(message):
                continue
            # In order, except for calls that wait.
            if message["method"] == "tools/call":
                threading.Thread(target=answer, args=(message,), daemon=True).start()
            else:
                answer(message)
        elif message["method"] == "notifications/cancelled":
            listening.pop(message["params"]["requestId"], None)
            cancelled.setdefault(json.dumps(message["params"]["requestId"]), threading.Event()).set()
        elif message["method"] == "x/notify":
            notify("x/notified", **message["params"])


main()
