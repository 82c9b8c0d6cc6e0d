"""Evaluates every mistake of mistakes.nix and its corrected form.

    mistakes.py NIXPKGS WORDS [NAME…]

NIXPKGS is a directory with lib/ and nixos/, WORDS a file with names of packages. A mistake must cause exactly one error, which
contains the texts listed for it. The corrected form must cause no error.
"""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent


def evaluate(nixpkgs: str, words: str, expression: str, **arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["nix-instantiate", "--eval", "--strict", "--json", str(HERE / expression)]
    for name, value in ({"nixpkgs": nixpkgs, "words": words} | arguments).items():
        command += ["--argstr", name, value]
    # A limit of processor time, because the elapsed time depends on the load.
    command = ["prlimit", "--cpu=120", "--", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=1200)


def wrong(nixpkgs: str, words: str, name: str, says: list[str]) -> str:
    """Returns why a case fails, or an empty string."""
    mistake = evaluate(nixpkgs, words, "mistake.nix", name=name, which="mistake")
    fine = evaluate(nixpkgs, words, "mistake.nix", name=name, which="fine")
    # Newer releases of Nix quote the source above the message, and indent the message below a line of its own.
    lines = [line for line in mistake.stderr.splitlines() if not re.match(r"\s*\d*\|", line)]
    errors = [line for line in lines if re.match(r"\s*error:.", line)]
    # Nix wraps its messages.
    output = " ".join(" ".join(lines).split())
    missing = [text for text in says if " ".join(text.split()) not in output]
    if mistake.returncode == 0:
        return f"{name}: no error"
    if len(errors) != 1 or output.count("Failed assertion:") > 1:
        return f"{name}: more than one error:\n{mistake.stderr}"
    if missing:
        return f"{name}: {missing} is not in:\n{mistake.stderr}"
    if fine.returncode != 0:
        return f"{name}: the corrected form is refused:\n{fine.stderr}"
    return ""


def main() -> int:
    nixpkgs, words, *names = sys.argv[1:]
    listed = evaluate(nixpkgs, words, "mistakes-texts.nix")
    assert listed.returncode == 0, listed.stderr
    says = json.loads(listed.stdout)
    assert len(says) >= 40, "the table is short"
    with ThreadPoolExecutor(os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()) as pool:
        results = list(pool.map(lambda name: wrong(nixpkgs, words, name, says[name]), names or says))
    failures = [result for result in results if result]
    print("\n".join(failures))
    print(f"{len(results)} mistakes, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
