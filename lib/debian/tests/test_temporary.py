"""Temporary directories: where they are, and that they are removed."""

import os
import signal
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from builder import report, temporary  # noqa: E402


class Temporary(unittest.TestCase):
    def setUp(self):
        # Below /tmp, because this user's own directory for temporary files may be private.
        work = tempfile.TemporaryDirectory(dir="/tmp")
        self.addCleanup(work.cleanup)
        self.work = Path(work.name).resolve()
        self.work.chmod(0o755)
        self.private, self.open = self.work / "private", self.work / "open"
        self.private.mkdir(mode=0o700)
        (self.private / "inside").mkdir(mode=0o755)
        self.open.mkdir(mode=0o755)
        # In a Nix build, other users cannot enter /.
        real = Path.stat
        stat = mock.patch.object(Path, "stat", lambda path, **how: real(self.open if path == Path("/") else path, **how))
        stat.start()
        self.addCleanup(stat.stop)

    def parent(self, own: Path, shared: list[Path], user: int = 1000) -> Path:
        with (
            mock.patch.object(tempfile, "tempdir", str(own)),
            mock.patch.object(temporary, "SHARED", shared),
            mock.patch.object(os, "geteuid", return_value=user),
        ):
            return temporary._scratch_parent()

    def test_a_directory_that_subordinate_ids_can_enter_is_used(self):
        self.assertEqual(self.parent(self.open, []), self.open)
        self.assertEqual(self.parent(self.private, [self.private / "inside", self.work / "none", self.open]), self.open)

    def test_a_link_through_a_private_directory_is_resolved(self):
        (self.private / "link").symlink_to(self.open)
        self.assertEqual(self.parent(self.private / "link", []), self.open)

    def test_root_uses_a_private_directory(self):
        self.assertEqual(self.parent(self.private, [self.open], user=0), self.private)

    def test_without_any_directory_there_is_an_error_with_a_hint(self):
        with self.assertRaisesRegex(report.BuildError, f"cannot enter {self.private}") as caught:
            self.parent(self.private, [self.private / "inside"])
        self.assertIn("TMPDIR", caught.exception.hint)

    def test_scratch_can_be_entered_and_is_removed(self):
        with temporary.scratch("test") as scratch:
            self.assertEqual(scratch.stat().st_mode & 0o777, 0o711)
            (scratch / "file").touch()
        self.assertFalse(scratch.exists())

    def test_leftovers_are_removed_unless_they_are_in_use(self):
        (self.open / "new-left").mkdir()
        (self.open / "new-link").symlink_to(self.private)
        (self.open / "new-file").touch()
        with temporary.directory(self.open, "new-") as first, temporary.directory(self.open, "new-") as second:
            self.assertEqual({path.name for path in self.open.iterdir()}, {"new-link", "new-file", first.name, second.name})
        self.assertTrue((self.private / "inside").exists())

    def test_a_signal_leaves_no_directory(self):
        def locked(parent: Path, prefix: str) -> tuple[Path, int]:
            made = original(parent, prefix)
            os.kill(os.getpid(), signal.SIGTERM)
            return made

        original = temporary._locked
        with (
            mock.patch.object(temporary, "_locked", locked),
            self.assertRaises(report.Interrupted),
            temporary.signals(),
            temporary.directory(self.open, "new-"),
        ):
            self.fail("the signal is lost")
        self.assertEqual(list(self.open.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
