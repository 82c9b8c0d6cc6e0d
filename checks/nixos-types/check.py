"""Checks the types and style of NixOS test scripts like the test driver's build, which fails on any finding.

    check.py < SCRIPTS

SCRIPTS is the JSON of scripts.nix. mypy and pyflakes must be on PATH.

nixpkgs' nixos/lib/testing/driver.nix prepends declarations to a script: the driver's own names, and a variable for every node
(for a single node also `machine`). It then runs mypy with these options, and pyflakes on the script without declarations.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ["start_all", "join_all", "retry", "subtest", "machines", "vlans"]

# Scripts of a test with one node `host`, and part of the expected finding; empty for a script without findings.
CONTROLS = {
    'machine = f"{host.name}"\n': "Incompatible types in assignment",
    "host.succeed(1)\n": "incompatible type",
    "host.wait_for_unti('x')\n": "has no attribute",
    "missing.succeed('x')\n": "not defined",
    "import json\nhost.succeed('x')\n": "imported but unused",
    'directory = f"{host.name}"\nhost.succeed(directory)\nmachine.log(directory)\n': "",
}


def declared(nodes: list[str]) -> list[str]:
    """Returns the variables of the nodes in a script."""
    names = nodes + (["machine"] if len(nodes) == 1 and "machine" not in nodes else [])
    return [re.sub(r"[^A-Za-z0-9_]", "_", re.sub(r"^[^A-Za-z_]", "_", name)) for name in names]


def findings_of(command: list[str], directory: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=directory, env=os.environ | environment, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode != 0 else ""


def wrong(scripts: dict[str, tuple[str, list[str]]]) -> dict[str, list[str]]:
    """Returns the findings in each script, with line numbers of the script."""
    complaints: dict[str, list[str]] = {name: [] for name in scripts}
    declarations = {}
    with tempfile.TemporaryDirectory() as directory:
        typed, plain = Path(directory, "typed"), Path(directory, "plain")
        typed.mkdir()
        plain.mkdir()
        output = ""
        for name, (script, nodes) in scripts.items():
            machines = declared(nodes)
            header = f"from test_driver import Machine, VLan, {', '.join(NAMES)}\n"
            declarations[name] = header + "".join(f"{machine}: Machine\n" for machine in machines) + "vlan1: VLan\n"
            (typed / name).write_text(declarations[name] + script)
            (plain / name).write_text(script)
            builtins = ",".join([*NAMES, *machines, "vlan1"])
            output += findings_of(["pyflakes", name], plain, PYFLAKES_BUILTINS=builtins)
        mypy = ["mypy", "--no-implicit-optional", "--no-color-output", "--no-error-summary", "--cache-dir=/dev/null"]
        types = findings_of([*mypy, *scripts], typed, MYPYPATH=str(Path(__file__).parent))
    for line in types.splitlines():
        place = re.match(r"([^:]+):(\d+):", line)
        assert place, types
        number = int(place[2]) - declarations[place[1]].count("\n")
        output += f"{place[1]}:{number}:{line[place.end():]}\n"
    for line in output.splitlines():
        # A line without a file name continues the line before it.
        if (name := line.split(":")[0]) in complaints:
            complaints[name].append(line)
        else:
            complaints[next(reversed(complaints))].append(line)
    return complaints


def main() -> int:
    tests = json.load(sys.stdin)
    assert tests, "there are no test scripts"
    scripts = {name.replace("-", "_").replace(".nix", ".py"): (test["script"], test["nodes"]) for name, test in tests.items()}
    controls = {f"control_{number}.py": (script, ["host"]) for number, script in enumerate(CONTROLS)}
    complaints = wrong(scripts | controls)
    for name, expected in zip(controls, CONTROLS.values()):
        found = "\n".join(complaints.pop(name))
        assert expected in found and bool(expected) == bool(found), f"{controls[name][0]!r}: {found!r}"
    for line in [line for lines in complaints.values() for line in lines]:
        print(line)
    return 1 if any(complaints.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
