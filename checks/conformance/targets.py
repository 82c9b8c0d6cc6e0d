"""What is tested: a program that serves the test server at a URL, and the journal of the test server."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Seconds until a program that serves must be ready.
START = 60.0
# The test server's names at the gateway, and its arguments.
SERVERS = {"both": ["--era=both"], "old": ["--era=old"], "new": ["--era=new"]}


@dataclass
class Target:
    """A running program, and the URL of each of its servers."""

    name: str
    urls: dict[str, str]
    journals: dict[str, Path]
    process: subprocess.Popen


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def commands(programs: Path, work: Path) -> tuple[dict[str, list[str]], dict[str, Path]]:
    """Returns the test servers' commands and journals."""
    journals = {name: work / f"{name}.journal" for name in SERVERS}
    main = str(programs / "server" / "main.mjs")
    return {
        name: ["node", main, *arguments, f"--journal={journals[name]}"] for name, arguments in SERVERS.items()
    }, journals


@contextmanager
def control(programs: Path, work: Path) -> Iterator[Target]:
    """Serves the test server by its SDK's own HTTP transport, with nothing in between."""
    journal = work / "journal"
    command = ["node", str(programs / "server" / "main.mjs"), "--http", f"--journal={journal}"]
    with running(command, work, stdout=subprocess.PIPE) as process:
        ready, _, _ = select.select([process.stdout], [], [], START)
        url = process.stdout.readline().decode().strip() if ready else ""
        if not url:
            raise RuntimeError("the test server did not start by HTTP")
        yield Target("control", {"both": url}, {"both": journal}, process)


@contextmanager
def gateway(binary: Path, programs: Path, work: Path, more: list[str]) -> Iterator[Target]:
    """Starts `agent-mcp serve` with the test servers behind it. Waits until it says that it is ready."""
    argv, journals = commands(programs, work)
    workspace = work / "workspace"
    runtime = work / "runtime"
    for directory in (workspace, runtime):
        directory.mkdir()
    default = work / "default-server"
    default.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in argv["both"]) + "\n")
    default.chmod(0o755)
    servers = {name: {"command": words[0], "args": words[1:]} for name, words in argv.items() if name != "both"}
    (workspace / ".mcp.json").write_text(json.dumps({"mcpServers": servers}))
    port = free_port()
    command = [
        str(binary), "serve", f"--default-server=both={default}", f"--workspace={workspace}",
        "--servers-file=.mcp.json", "--host=127.0.0.1", f"--port={port}", "--health-path=/status",
        "--log-level-credential=none", *more,
    ]  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    urls = {name: f"{base}/mcp" if name == "both" else f"{base}/servers/{name}/mcp" for name in SERVERS}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(work / "notify"))
        environment = {"RUNTIME_DIRECTORY": str(runtime), "NOTIFY_SOCKET": str(work / "notify")}
        with running(command, work, environment) as process:
            ended = os.pidfd_open(process.pid)
            while True:
                readable, _, _ = select.select([told, ended], [], [], START)
                if told not in readable:
                    raise RuntimeError("the gateway ended, or is not ready in time")
                if b"READY=1" in told.recv(4096):
                    break
            os.close(ended)
            # Nobody reads its messages from here on, which must not stop the gateway.
            wait_for_servers(runtime / "servers.json")
            yield Target("gateway", urls, journals, process)


def wait_for_servers(states: Path) -> None:
    """Waits until no server is starting: until then the gateway answers for them."""
    deadline = time.monotonic() + START
    while any(server["state"] == "starting" for server in json.loads(states.read_text())["servers"]):
        if time.monotonic() > deadline:
            raise RuntimeError(f"a server did not start: {states.read_text()}")
        time.sleep(0.05)


@contextmanager
def running(argv: list[str], work: Path, environment: dict | None = None, stdout=None) -> Iterator[subprocess.Popen]:
    """Runs a program and ends its process group at the end. Shows what it wrote if the caller fails."""
    log = work / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stdout or file,
            stderr=file,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield process
    except BaseException:
        sys.stderr.write(log.read_text(errors="replace")[-5000:])
        raise
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
