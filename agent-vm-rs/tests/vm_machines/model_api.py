"""A stand-in for the APIs of Anthropic (Messages) and OpenAI (Responses), over TLS.

model_api.py DIR ADDRESS [PORT CERTIFICATE KEY]: prints the port. Without a certificate it makes DIR/ca.pem and one of that
authority. DIR/seen gets the path, headers and names of tools of each request, one JSON object a line.

The model asks for one command, which commits a file, and then ends. To an agent without tools it answers with an edit of a
file, in aider's format, which aider commits.
"""

import json
import ssl
import subprocess
import sys
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

directory, address = Path(sys.argv[1]), sys.argv[2]
port, certificate, key = sys.argv[3:6] or ("0", directory / "leaf.pem", directory / "leaf.key")
COMMAND = "echo made by the agent >>made && git add made && git commit --quiet --message made"
USAGE = {"input_tokens": 1, "output_tokens": 1}
ANSWER = "The task is done."
EDIT = f"{ANSWER}\n\nedited\n```\n<<<<<<< SEARCH\n=======\nmade by the agent\n>>>>>>> REPLACE\n```\n"


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}"
        if self.headers.get("Content-Encoding") == "gzip":
            body = zlib.decompress(body, 31)
        path = self.path.split("?")[0]
        models = {"/v1/messages": messages, "/v1/responses": responses}
        asked = json.loads(body)
        self.note([tool.get("name") for tool in asked.get("tools", [])])
        if path not in models:
            return self.answer(404, "application/json", "{}")
        if not asked.get("stream"):
            # aider asks so for the message of its commit.
            return self.answer(200, "application/json", json.dumps(message(asked, content=[{"type": "text", "text": "made"}])))
        events = list(models[path](asked))
        text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        return self.answer(200, "text/event-stream", text)

    def do_GET(self):
        self.note()
        # Codex tries a WebSocket first.
        self.answer(426 if self.path == "/v1/responses" else 404, "application/json", "{}")

    do_HEAD = do_GET

    def note(self, tools=()):
        with open(directory / "seen", "a") as seen:
            seen.write(json.dumps({"path": self.path, "headers": dict(self.headers), "tools": tools}) + "\n")

    def answer(self, status, kind, text):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def message(asked, content=()):
    """Returns a message of Anthropic's API; without content it is the beginning of one."""
    reason = "end_turn" if content else None
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"]}
    return {**head, "content": list(content), "stop_reason": reason, "stop_sequence": None, "usage": USAGE}


def messages(asked):
    """Returns the events of an answer of Anthropic's API."""
    contents = [message["content"] for message in asked["messages"] if isinstance(message["content"], list)]
    is_done = any(part["type"] == "tool_result" for content in contents for part in content)
    yield {"type": "message_start", "message": message(asked)}
    if is_done or all(tool.get("name") != "Bash" for tool in asked.get("tools", [])):
        text = ANSWER if asked.get("tools") or "SEARCH/REPLACE" not in json.dumps(asked) else EDIT
        block, delta, reason = {"type": "text", "text": ""}, {"type": "text_delta", "text": text}, "end_turn"
    else:
        block = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}
        call = json.dumps({"command": COMMAND, "description": "Make a file"})
        delta, reason = {"type": "input_json_delta", "partial_json": call}, "tool_use"
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": USAGE}
    yield {"type": "message_stop"}


def responses(asked):
    """Returns the events of an answer of OpenAI's API."""
    is_done = any(item.get("type") == "function_call_output" for item in asked["input"])
    if is_done:
        content = [{"type": "output_text", "text": ANSWER, "annotations": []}]
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
    else:
        call = {"name": "exec_command", "arguments": json.dumps({"cmd": COMMAND})}
        item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "status": "completed", **call}
    response = {"id": "resp_1", "object": "response"}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    yield {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": {**response, "status": "completed", "output": [item], "usage": usage}}


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


if not sys.argv[3:]:
    openssl(*"req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=test".split(), "-addext", "keyUsage=critical,keyCertSign")
    openssl(*"req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=model".split())
    (directory / "extensions").write_text(f"subjectAltName=IP:{address}\n")
    openssl(*"x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -extfile extensions".split())
server = ThreadingHTTPServer((address, int(port)), Model)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
