"""Runs the checks of third-party client libraries against a URL."""

import json
import os
import subprocess
from pathlib import Path

# Program, its interpreter, and the eras its library speaks.
CLIENTS = {
    "typescript_old": ("node", ["old"]),
    "typescript_new": ("node", ["old", "new"]),
    "python_old": ("python-old", ["old"]),
    "python_new": ("python-new", ["old", "new"]),
    "fastmcp_client": ("python-new", ["old", "new"]),
}
SUFFIXES = {"node": ".mjs", "python-old": ".py", "python-new": ".py"}
# Seconds for all checks of one client. They take 5 s, and 20 s for each that hangs.
LIMIT = 300


def run(programs: Path, client: str, url: str, era: str, journal: Path, without: str) -> list[dict]:
    """Returns the name of each check, whether it passed, and why not. `without` is a check to leave out."""
    interpreter = CLIENTS[client][0]
    program = str(programs / "clients" / f"{client}{SUFFIXES[interpreter]}")
    argv = ["node"] if interpreter == "node" else [str(programs / interpreter), "-B"]
    journal.touch()
    done = subprocess.run(
        [*argv, program, url, era, str(journal), without],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "FASTMCP_LOG_ENABLED": "false"},
        timeout=LIMIT,
        check=False,
    )
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    if not results or not results.pop().get("end"):
        raise RuntimeError(f"{client} ended early:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return results


def inspect(inspector: Path, transport: str, url: str) -> list[dict]:
    """Returns the checks of the inspector, which does one thing at a time. The transport is http or sse."""
    results = []
    for check, arguments, wanted in (
        ("list", ["--list"], '"name": "echo"'),
        ("call", ["--call", "echo", "value=42"], '"text": "42"'),
        ("failed call", ["--call", "no-such-tool"], "no-such-tool"),
    ):
        done = subprocess.run(
            [inspector, "--transport", transport, "--url", url, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        found = wanted in done.stdout + done.stderr
        results.append(
            {
                "check": f"{check} by {transport}",
                "ok": found,
                "why": "" if found else (done.stdout + done.stderr)[-500:],
            }
        )
    return results


def judge(results: list[dict], expected: list[dict], target: str, server: str, client: str, era: str) -> list[str]:
    """Returns what is wrong: failures that are not expected, and expected failures that did not happen."""
    mine = {
        entry["check"]
        for entry in expected
        if target in entry["targets"]
        and server in entry["servers"]
        and client in entry["clients"]
        and era in entry["eras"]
    }
    wrong = [
        f"{result['check']}: {result['why']}" for result in results if not result["ok"] and result["check"] not in mine
    ]
    failed = {result["check"] for result in results if not result["ok"]}
    return wrong + [f"expected to fail, but did not: {check}" for check in sorted(mine - failed)]
