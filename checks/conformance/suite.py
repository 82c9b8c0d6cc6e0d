"""Runs the official suite against a URL, and compares its results with the list of expected failures."""

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Every version the suite knows.
OLD = ("2025-03-26", "2025-06-18", "2025-11-25")
NEW = ("2026-07-28",)
VERSIONS = OLD + NEW
# Seconds for one version. A run takes 5 s.
LIMIT = 300


@dataclass(frozen=True)
class Result:
    """The worst status of a check: a scenario may run a check several times."""

    scenario: str
    check: str
    status: str
    why: str = ""


def run(programs: Path, url: str, version: str, output: Path, scenario: str | None = None) -> list[Result]:
    """Returns the results of all scenarios that apply to a version, or of one."""
    main = programs / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    which = ["--scenario", scenario] if scenario else ["--suite", "all"]
    done = subprocess.run(
        ["node", "--import", str(programs / "old_node.mjs"), str(main), "server", "--url", url]
        + [*which, "--spec-version", version, "--output-dir", str(output)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "NO_COLOR": "1"},
        timeout=LIMIT,
        check=False,
    )
    results = read(output)
    if not results:
        raise RuntimeError(f"the suite ran no scenario:\n{done.stdout.decode(errors='replace')[-2000:]}")
    return results


SEVERITY = ["SKIPPED", "INFO", "SUCCESS", "WARNING", "FAILURE"]


def read(output: Path) -> list[Result]:
    worst: dict[tuple[str, str], Result] = {}
    for file in sorted(output.glob("*/checks.json")):
        # server-NAME-TIME, where TIME is 2026-11-30T00-49-17-741Z.
        scenario = file.parent.name.removeprefix("server-")[: -len("-2026-11-30T00-49-17-741Z")]
        for check in json.loads(file.read_text()):
            found = Result(
                scenario, check["id"], check["status"], check.get("errorMessage") or check.get("description", "")
            )
            known = worst.get((scenario, check["id"]))
            if known is None or SEVERITY.index(known.status) < SEVERITY.index(found.status):
                worst[scenario, check["id"]] = found
    return list(worst.values())


def judge(results: Iterable[Result], expected: list[dict], target: str, server: str, version: str) -> list[str]:
    """Returns what is wrong: failures that are not expected, and expected failures that did not happen.

    A warning counts as a failure: the suite warns where the specification says SHOULD.
    """
    mine = [
        entry
        for entry in expected
        if target in entry["targets"] and server in entry["servers"] and version in entry["versions"]
    ]
    listed = {(entry["scenario"], entry["check"]) for entry in mine}
    # Entries that are `sometimes` depend on the order in which messages arrive.
    missing = {(entry["scenario"], entry["check"]) for entry in mine if not entry.get("sometimes")}
    wrong = []
    for result in results:
        key = (result.scenario, result.check)
        if result.status in ("FAILURE", "WARNING"):
            missing.discard(key)
            if key not in listed:
                wrong.append(f"{result.status.lower()}: {result.scenario}: {result.check}: {result.why}")
    wrong += [f"expected to fail, but did not: {scenario}: {check}" for scenario, check in sorted(missing)]
    return wrong


def tally(results: Iterable[Result]) -> str:
    counts = dict.fromkeys(("SUCCESS", "FAILURE", "WARNING", "SKIPPED", "INFO"), 0)
    for result in results:
        counts[result.status] += 1
    return ", ".join(f"{count} {status.lower()}" for status, count in counts.items() if count)
