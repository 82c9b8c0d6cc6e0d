"""The audit log: one JSON object a line for any host name, and a bounded size."""

import json
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import audit


class Log(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.log = Path(self.directory.name, "egress.jsonl")
        self.denied = Path(self.directory.name, "denied")
        self.audit = audit.Audit(str(self.log), str(self.denied), 4096)

    def write(self, verdict="deny", host="evil.test", path="/", reason="why"):
        self.audit.write(verdict=verdict, reason=reason, method="GET", host=host, port=80, path=path)

    def test_control_characters_are_escaped(self):
        self.write(host="a\n\x1b[2Jb\u202e", path="/\x9b\x07")
        (line,) = self.log.read_text().splitlines()
        self.assertTrue(line.isascii() and line.isprintable())
        self.assertEqual(json.loads(line)["host"], "a\n\x1b[2Jb\u202e")

    def test_denied_and_allowed_attempts_are_counted_apart(self):
        self.write()
        self.write(verdict="allow")
        self.write()
        self.write(verdict="error")
        self.assertEqual(self.denied.read_text(), "2\n")
        self.assertEqual(self.denied.with_name("allowed").read_text(), "1\n")

    def test_the_count_continues_after_a_restart(self):
        self.write()
        self.audit = audit.Audit(str(self.log), str(self.denied), 4096)
        self.write()
        self.assertEqual(self.denied.read_text(), "2\n")

    def test_the_log_has_a_maximal_size_and_mode_0600(self):
        for _ in range(100):
            self.write(path="x" * 10_000, reason="x" * 10_000)
        sizes = [file.stat().st_size for file in self.log.parent.iterdir()]
        self.assertLess(sum(sizes), 20_000)
        self.assertEqual(self.log.stat().st_mode & 0o777, 0o600)


if __name__ == "__main__":
    unittest.main()
