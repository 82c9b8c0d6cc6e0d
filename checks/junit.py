"""Turns nextest's report into one line a test: pass, fail or skip, its name, and why (tab-separated).

usage: junit.py GROUP STATUS REPORT

A test that ran and printed `AGENT_VM_SKIP: why` counts as skipped. The exit status of nextest and the
report must agree, else that is a failure of its own: a run that ended early must not look like success.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree

SKIP = re.compile(r"^AGENT_VM_SKIP: *(.*)$", re.MULTILINE)


def say(what: str, test: str, why: str = "") -> None:
    """Prints one record, without tabs and line breaks inside a field."""
    print("\t".join(re.sub(r"\s+", " ", part).strip() for part in (what, test, why)))


def main() -> int:
    group, status, report = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    try:
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    except FileNotFoundError:
        cases = []
        if status != 0:
            say("fail", group, f"did not compile or did not start (exit code {status})")
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
            say("fail", name, bad.get("message") or bad.get("type") or "failed")
        elif skip:
            say("skip", name, skip.group(1) or "no reason given")
        elif case.find("skipped") is not None:
            say("skip", name, "skipped by nextest")
        else:
            say("pass", name)
    if not cases:
        say("skip", group, "there are no such tests")
    if (status == 0) != (failures == 0):
        say("fail", group, f"nextest ended with {status}, but its report has {failures} failures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
