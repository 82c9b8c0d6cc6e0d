"""Programs from npm: how it is called, and what the lock files name."""

import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

LIB = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(LIB))

from builder import npm, report, run  # noqa: E402

NODE = "/usr/local/lib/agent-vm/node"
NPM = {
    "node": f"{NODE}/bin/node",
    "npm": f"{NODE}/npm-cli.js",
    "remove": [f"{NODE}/include"],
    "installations": [
        {"directory": "/usr/local/lib/agent-vm/agents/claude", "lock": "agents/claude", "program": "/usr/local/lib/claude"}
    ],
}


class Install(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.work = Path(scratch.name)
        self.tree = self.work / "tree"
        (self.tree / NODE[1:] / "include").mkdir(parents=True)

    def test_npm_runs_no_scripts_and_takes_only_the_lock(self):
        (self.tree / "usr/local/lib/claude").write_text("")
        with mock.patch.object(run, "run") as called:
            npm.install(NPM, self.tree, self.work)
        words = called.call_args.args[0]
        self.assertEqual(words[0], f"{self.tree}{NODE}/bin/node")
        self.assertIn("ci", words)
        self.assertIn("--ignore-scripts", words)
        self.assertTrue(called.call_args.kwargs["env"]["PATH"].startswith(f"{self.tree}{NODE}/bin:"))
        self.assertTrue((self.tree / "usr/local/lib/agent-vm/agents/claude/package-lock.json").is_file())
        self.assertFalse((self.tree / NODE[1:] / "include").exists())

    def test_a_package_without_the_program_is_an_error(self):
        with mock.patch.object(run, "run"), self.assertRaisesRegex(report.BuildError, "has no /usr/local/lib/claude"):
            npm.install(NPM, self.tree, self.work)


class Locks(unittest.TestCase):
    def test_each_agent_has_a_lock(self):
        presets = {path.stem for path in (LIB.parent / "policy/agents").glob("*.json")}
        self.assertEqual(presets, {path.name for path in (LIB / "agents").iterdir()})

    def test_each_server_has_a_lock_or_requirements(self):
        known = json.loads((LIB.parent / "policy/known-servers.json").read_text())["debian"]
        found = [path.stem for path in (LIB / "servers").iterdir() if path.is_dir() or path.suffix == ".txt"]
        self.assertEqual(known, sorted(found))

    def test_locks_have_hashes_and_name_no_registry(self):
        locks = [*LIB.glob("agents/*/package-lock.json"), *LIB.glob("servers/*/package-lock.json")]
        self.assertGreater(len(locks), 6)
        for lock in locks:
            text = lock.read_text()
            self.assertNotIn("resolved", text)
            self.assertNotIn("://", text)
            packages = json.loads(text)["packages"]
            wanted = json.loads((lock.parent / "package.json").read_text())["dependencies"]
            self.assertEqual(packages[""]["dependencies"], wanted)
            for path, package in packages.items():
                if path:
                    self.assertTrue(package["integrity"].startswith("sha512-"), f"{lock}: {path}")

    def test_requirements_have_hashes_and_name_no_registry(self):
        files = [*LIB.glob("*.txt"), *LIB.glob("servers/*.txt")]
        self.assertGreater(len(files), 6)
        for file in files:
            text = file.read_text()
            self.assertNotIn("://", text)
            lines = [line for line in text.splitlines() if not line.startswith("#")]
            pinned = [number for number, line in enumerate(lines) if "==" in line]
            self.assertGreater(len(pinned), 0)
            for number in pinned:
                self.assertIn("--hash=sha256:", lines[number + 1], f"{file}: {lines[number]}")


if __name__ == "__main__":
    unittest.main()
