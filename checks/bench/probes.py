"""Measures when a guest answers over ssh and MCP."""

import http.client
import json
import socket
import ssl
import subprocess
import time
from pathlib import Path

LONGEST = 400.0


def free_port() -> int:
    """Returns a free loopback port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def git_repository(directory: Path) -> Path:
    """Creates a repository with one commit."""
    repository = directory / "app"
    repository.mkdir()
    git = ["git", "-C", str(repository), "-c", "user.name=bench", "-c", "user.email=bench@example.invalid"]
    subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "first"], check=True)
    return repository


def until_ssh(port: int, key: Path) -> float:
    """Returns the time at which a command first succeeded over ssh."""
    options = ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
               "LogLevel=QUIET", "ConnectTimeout=30"]
    words = [word for option in options for word in ("-o", option)]
    command = ["ssh", "-F", "none", "-i", str(key), "-p", str(port), *words, "dev@127.0.0.1", "true"]
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        # QEMU's port forward accepts connections before the guest does, so wait for sshd's greeting.
        if greets(port) and subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
            return time.monotonic()
        time.sleep(0.05)
    raise SystemExit(f"error: no ssh login within {LONGEST:.0f} s")


def greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(1)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def until_mcp(port: int, keys: Path | None = None) -> float:
    """Returns the time at which MCP answered `initialize`. `keys`: the machine's `tls` directory, to use TLS and the token."""
    body = json.dumps({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
    })
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    context = None
    if keys is not None:
        context = ssl.create_default_context(cafile=str(keys / "ca.pem"))
        headers["Authorization"] = f"Bearer {(keys / 'token').read_text().strip()}"
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        if context is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        else:
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
        try:
            connection.request("POST", "/mcp", body, headers)
            answer = connection.getresponse()
            if answer.status == 200 and b"serverInfo" in answer.read(65536):
                return time.monotonic()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise SystemExit(f"error: MCP does not answer within {LONGEST:.0f} s")
