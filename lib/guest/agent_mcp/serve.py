"""agent-mcp serve: starts the servers and mcp-proxy, and reports to systemd whether mcp-proxy answers.

It runs as a systemd service of Type=notify with a watchdog. Paths of programs are arguments, so that it runs on any
distribution.
"""

import argparse
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import workspace_servers
from journal import INFO, WARNING, log, notify
from policy import MCP
from relay import Relay
from states import States

PROBE_TIMEOUT = 5.0
# Address at which to probe a server that listens on all addresses.
PROBED = {"0.0.0.0": "127.0.0.1", "::": "::1"}
HERE = os.path.dirname(os.path.abspath(__file__))
# Seconds between probes before the first answer.
STARTING = 0.1
# Seconds for the programs to end when the service stops.
STOP_GRACE = 1.0

LEVELS = {"info": ["--log-level=INFO"], "debug": ["--debug"]}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="agent-mcp serve")
    parser.add_argument("--mcp-proxy", required=True, help="path of mcp-proxy")
    parser.add_argument(
        "--mcp-proxy-python",
        metavar="PYTHON",
        help="path of a Python that can import mcp-proxy: clients are then notified when a server starts",
    )
    parser.add_argument(
        "--default-server",
        required=True,
        metavar="NAME=PROGRAM",
        help=f"server at {MCP['mcpPath']} and {MCP['ssePath']}",
    )
    parser.add_argument("--workspace", required=True, help="directory the servers run in")
    parser.add_argument(
        "--servers-file",
        action="append",
        default=[],
        metavar="FILE",
        help="file that lists more servers, relative to the workspace or absolute; the first use of a name wins",
    )
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--health-path", required=True)
    parser.add_argument("--log-level-credential", required=True)
    parser.add_argument("--allow-origin", action="append", default=[])
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    wakeup = listen_for_signals()
    runtime = Path(os.environ["RUNTIME_DIRECTORY"])
    os.chdir(options.workspace)

    name, _, program = options.default_server.partition("=")
    named, problems = workspace_servers.read_all(Path(options.workspace, file) for file in options.servers_file)
    for problem in problems:
        log(WARNING, problem)
    states = States(runtime / "servers.json", problems)
    default = Relay(workspace_servers.Server(name, [program]), runtime / "default", options.workspace, states.changed)
    relays = [default]
    for number, server in enumerate(named):
        relays.append(Relay(server, runtime / str(number), options.workspace, states.changed))
    for relay in relays:
        states.changed(relay.describe())

    # Started before the servers: it takes longest.
    proxy = start_proxy(options, runtime, default, relays[1:])
    try:
        for relay in relays:
            relay.start()
        return watch(options, proxy, wakeup, states)
    finally:
        stop(proxy, relays)


def listen_for_signals() -> int:
    """Returns a descriptor that becomes readable when the service must stop."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader


def start_proxy(
    options: argparse.Namespace, runtime: Path, default: Relay, named: list[Relay]
) -> subprocess.Popen:
    config = runtime / "proxy.json"
    config.write_text(
        json.dumps(
            {
                "mcpServers": {
                    relay.name: {"command": connect(relay)[0], "args": connect(relay)[1:]} for relay in named
                }
            }
        )
    )
    program = [options.mcp_proxy]
    if options.mcp_proxy_python:
        program = [options.mcp_proxy_python, "-I", HERE, "proxy"]
    argv = [
        *program,
        *(f"--allow-origin={origin}" for origin in options.allow_origin),
        f"--host={options.host}",
        f"--port={options.port}",
        f"--named-server-config={config}",
        *LEVELS.get(log_level(options), ["--log-level=WARNING"]),
        "--",
        *connect(default),
    ]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL)


def connect(relay: Relay) -> list[str]:
    # -S: do not search the many packages of mcp-proxy.
    return [sys.executable, "-I", "-S", HERE, "connect", str(relay.path)]


def log_level(options: argparse.Namespace) -> str:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return ""
    try:
        return Path(directory, options.log_level_credential).read_text().strip()
    except OSError:
        return ""


def watch(options: argparse.Namespace, proxy: subprocess.Popen, wakeup: int, states: States) -> int:
    """Reports mcp-proxy's health to systemd until a signal (returns 0) or until mcp-proxy ends (returns 1)."""
    interval = int(os.environ.get("WATCHDOG_USEC", "60000000")) / 1e6 / 4
    poll = select.poll()
    poll.register(wakeup, select.POLLIN)
    ended = os.pidfd_open(proxy.pid)
    poll.register(ended, select.POLLIN)
    began = time.monotonic()
    ready = False
    pause = STARTING
    while True:
        for descriptor, _ in poll.poll(pause * 1000):
            if descriptor == wakeup:
                notify("STOPPING=1")
                return 0
            log(WARNING, f"mcp-proxy ended with status {proxy.wait()}")
            return 1
        healthy = answers(options)
        if healthy and not ready:
            ready = True
            pause = interval
            notify("READY=1")
            log(INFO, f"serving {states.summary()} after {time.monotonic() - began:.1f} s")
        elif healthy:
            notify("WATCHDOG=1")
        elif ready:
            log(WARNING, f"mcp-proxy does not answer at {options.health_path}")


def answers(options: argparse.Namespace) -> bool:
    """Returns whether the health endpoint answers 200. An HTTP library would take longer to import than the request takes."""
    try:
        with socket.create_connection((PROBED.get(options.host, options.host), options.port), PROBE_TIMEOUT) as connection:
            request = f"GET {options.health_path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            return connection.recv(12) == b"HTTP/1.1 200"
    except OSError:
        return False


def stop(proxy: subprocess.Popen, relays: list[Relay]) -> None:
    """Ends all programs. Those that do not end in time are killed, so that a power-off never waits."""
    if proxy.poll() is None:
        proxy.terminate()
    left = [relay for relay in relays if relay.terminate()]
    deadline = time.monotonic() + STOP_GRACE
    while time.monotonic() < deadline and (proxy.poll() is None or left):
        left = [relay for relay in left if relay.terminate(0)]
        time.sleep(0.02)
    if proxy.poll() is None:
        proxy.kill()
    for relay in left:
        relay.terminate(signal.SIGKILL)
