"""Converts nextest's report to one line for each test: pass, fail or skip, its name, and the reason (tab-separated).

usage: junit.py GROUP STATUS REPORT

A test that prints `AGENT_VM_SKIP: REASON` counts as skipped. STATUS is the exit status of nextest. If it does not match the
report, an additional failure is printed, because the run may have ended early.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree

SKIP = re.compile(r"^AGENT_VM_SKIP: *(.*)$", re.MULTILINE)


def record(what: str, test: str, why: str = "") -> None:
    """Prints a line, without tabs and line breaks inside a field."""
    print("\t".join(re.sub(r"\s+", " ", part).strip() for part in (what, test, why)))


def main() -> int:
    group, status, report = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    try:
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    except FileNotFoundError:
        cases = []
        if status != 0:
            record("fail", group, f"did not compile or did not start (exit code {status})")
            return 0
    failures = 0
    for case in cases:
        name = f"{case.get('classname')} {case.get('name')}"
        bad = next((case.find(tag) for tag in ("failure", "error") if case.find(tag) is not None), None)
        # Captured output may be on either stream: libtest writes what tests print to both.
        printed = "\n".join(part.text or "" for tag in ("system-out", "system-err") for part in case.iter(tag))
        skip = SKIP.search(printed)
        if bad is not None:
            failures += 1
            record("fail", name, bad.get("message") or bad.get("type") or "failed")
        elif skip:
            record("skip", name, skip.group(1) or "no reason given")
        elif case.find("skipped") is not None:
            record("skip", name, "skipped by nextest")
        else:
            record("pass", name)
    if not cases:
        record("skip", group, "no tests match")
    if (status == 0) != (failures == 0):
        record("fail", group, f"nextest exited with status {status}, but its report has {failures} failures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
