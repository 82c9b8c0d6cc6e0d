"""Checks lib/monitoring: every expression of an alert or a panel names metrics and labels that agent-vm has, and every alert has
a test in which it fires. The metrics are those of docs/reference/metrics.md, which a test of the program compares with its code.

With a file as its argument, it also reads that text with the official parser of OpenMetrics, from PyPI's prometheus_client."""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "lib/monitoring"
ROW = re.compile(r"^\| `(agent_vm_\w+)` \| (\w+) \| \w* ?\| ([^|]*)\|")
# Labels that Prometheus adds, and the only metrics of others that an expression may name.
LABELS = {"instance", "job"}
OTHERS = {"node_memory_MemTotal_bytes", "node_textfile_mtime_seconds"}
# Two hosts may have machines of one name.
MACHINE = re.compile(r"\{\{ ?(?:\$labels\.)?machine ?\}\}")
HOST = re.compile(r"\{\{ ?(?:\$labels\.)?instance ?\}\}")


def metrics() -> dict[str, tuple[str, set[str]]]:
    """Returns each metric's type and labels."""
    page = (ROOT / "docs/reference/metrics.md").read_text()
    rows = filter(None, map(ROW.match, page.splitlines()))
    return {row[1]: (row[2], set(re.findall(r"`(\w+)`", row[3]))) for row in rows}


def names(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:agent_vm|node)_\w+", expression))


def wrong(expression: str, known: dict[str, tuple[str, set[str]]]) -> list[str]:
    """Returns what is wrong with an expression."""
    found = [f"unknown metric {name}" for name in names(expression) - known.keys() - OTHERS]
    for name, labels in re.findall(r"\b(agent_vm_\w+)\{([^}]*)\}", expression):
        have = known.get(name, ("", set()))[1] | LABELS
        found += [f"{name} has no label {label}" for label in re.findall(r"(\w+)\s*[=!]", labels) if label not in have]
    for name in re.findall(r"(?:rate|increase)\((agent_vm_\w+)", expression):
        if known.get(name, ("",))[0] != "counter":
            found.append(f"{name} is not a counter")
    for name in known:
        if known[name][0] == "counter" and re.search(rf"(?<!\()\b{name}\b", re.sub(rf"(rate|increase)\({name}", "", expression)):
            found.append(f"{name} is a counter: it needs rate or increase")
    return found


def alerts() -> list[dict]:
    groups = json.loads((MONITORING / "alerts.json").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[tuple[str, str, str]]:
    """Returns each panel's title, expression and legend."""
    all_panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return [(panel["title"], target["expr"], target["legendFormat"]) for panel in all_panels for target in panel["targets"]]


def check_expressions() -> list[str]:
    known = metrics()
    assert len(known) > 20, "docs/reference/metrics.md lists no metrics"
    # Control: mistakes are found.
    for mistake in ["agent_vm_none", 'agent_vm_machine_state{colour="red"}', "rate(agent_vm_machine_cores[5m])"]:
        assert wrong(mistake, known), mistake
    assert wrong("agent_vm_machine_cpu_seconds_total > 1", known)
    found = []
    for alert in alerts():
        found += [f"{alert['alert']}: {what}" for what in wrong(alert["expr"], known)]
        if not alert["annotations"]["description"].endswith("."):
            found.append(f"{alert['alert']}: its description is no sentence")
        if not HOST.search(alert["annotations"]["summary"]) and not alert["expr"].startswith("absent("):
            found.append(f"{alert['alert']}: its summary does not name the host")
    for title, expression, legend in panels():
        found += [f"{title}: {what}" for what in wrong(expression, known)]
        if MACHINE.search(legend) and not HOST.search(legend) or "by (machine)" in expression:
            found.append(f"{title}: it takes machines of one name on two hosts for one")
        labels = LABELS.union(*(known[name][1] for name in names(expression) if name in known))
        found += [f"{title}: the legend names {label}" for label in re.findall(r"\{\{(\w+)\}\}", legend) if label not in labels]
    return found


def check_tests() -> list[str]:
    """Every alert fires in a test."""
    tests = json.loads((MONITORING / "alerts-test.json").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    known = {alert["alert"] for alert in alerts()}
    return [f"no test has {name} firing" for name in sorted(known - fired)] + [f"no alert {name}" for name in fired - known]


def check_layout() -> list[str]:
    """No two panels overlap, and each has an id of its own."""
    all_panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    taken: dict[tuple[int, int], str] = {}
    found = []
    for panel in all_panels:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if x >= 24 or taken.setdefault((x, y), panel["title"]) != panel["title"]:
                    found.append(f"{panel['title']} is at the place of {taken.get((x, y), 'nothing')}")
    if len({panel["id"] for panel in all_panels}) != len(all_panels):
        found.append("two panels have one id")
    return sorted(set(found))


def check_text(file: Path) -> list[str]:
    """Reads a text with OpenMetrics' parser."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    text = file.read_text()
    # A snapshot of the program's tests has a header.
    text = text.split("---\n", 2)[-1] if text.startswith("---\n") else text
    families = {family.name for family in text_string_to_metric_families(text.strip() + "\n")}
    expected = {name.removesuffix("_total") for name in metrics()}
    return [f"{name} is not in the text" for name in sorted(expected - families)]


def main() -> int:
    found = check_expressions() + check_tests() + check_layout()
    for file in sys.argv[1:]:
        found += check_text(Path(file))
    print("\n".join(found) or f"{len(alerts())} alerts and {len(panels())} expressions of panels")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
