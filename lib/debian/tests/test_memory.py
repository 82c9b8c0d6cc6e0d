"""Work in memory: when it is chosen, and that a full one is noticed."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from builder import build, memory, report  # noqa: E402

HERE = Path(__file__).resolve().parent.parent
# In a process of its own, because it enters a mount namespace.
INSIDE = """
import os, sys
from pathlib import Path
from builder import memory
place = Path(sys.argv[1])
memory.LEAST = 16 << 20
memory.available = lambda text: 32 << 20
memory.INTERVAL = 0.01
with memory.mounted(place) as room:
    if room is None:
        sys.exit(3)
    (place / "small").write_bytes(bytes(1 << 20))
    print(os.path.ismount(place), room.was_full(), flush=True)
    sys.stdin.readline()
    if len(sys.argv) > 2:
        try:
            (place / "big").write_bytes(bytes(64 << 20))
        except OSError:
            room.close()
            (place / "big").unlink()
            print(room.was_full())
print(list(place.iterdir()))
"""


class Memory(unittest.TestCase):
    def setUp(self):
        work = tempfile.TemporaryDirectory(dir="/tmp")
        self.addCleanup(work.cleanup)
        self.work = Path(work.name)

    def test_what_programs_can_take_is_read(self):
        self.assertEqual(memory.available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), 2 << 20)
        self.assertEqual(memory.available("MemTotal: 9 kB\n"), 0)

    def is_chosen(self, *, user: int = 0, free: int = 64 << 30, environment: dict | None = None) -> bool:
        with (
            mock.patch.object(os, "geteuid", return_value=user),
            mock.patch.object(memory, "available", return_value=free),
            mock.patch.object(memory, "_mount", return_value=True),
            mock.patch.object(memory.run, "run"),
            mock.patch.dict(os.environ, environment or {}),
        ):
            if environment is None:
                os.environ.pop("TMPDIR", None)
            with memory.mounted(self.work) as room:
                return room is not None

    def test_root_works_there_if_there_is_room_and_no_directory_was_chosen(self):
        self.assertTrue(self.is_chosen())
        self.assertFalse(self.is_chosen(user=1000))
        self.assertFalse(self.is_chosen(free=memory.LEAST))
        self.assertFalse(self.is_chosen(environment={"TMPDIR": str(self.work)}))

    def inside(self, *args: str) -> subprocess.Popen:
        argv = [sys.executable, "-c", INSIDE, str(self.work), *args]
        environment = {key: value for key, value in os.environ.items() if key != "TMPDIR"} | {"PYTHONPATH": str(HERE)}
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.addCleanup(process.communicate)
        first = process.stdout.readline()
        if not first:
            self.assertEqual(process.wait(), 3)
            self.skipTest("this account cannot mount")
        self.assertEqual(first, "True False\n")
        return process

    def test_nobody_else_sees_the_files_and_nothing_is_left(self):
        process = self.inside()
        self.assertEqual(list(self.work.iterdir()), [])
        self.assertEqual(process.communicate("\n")[0], "[]\n")

    def test_a_killed_build_leaves_nothing(self):
        process = self.inside()
        process.kill()
        process.wait()
        self.assertEqual(list(self.work.iterdir()), [])
        self.assertNotIn(str(self.work), Path("/proc/mounts").read_text())

    def test_a_full_one_is_noticed_after_its_files_are_removed(self):
        self.assertEqual(self.inside("fill").communicate("\n")[0], "True\n[]\n")


class Again(unittest.TestCase):
    """A build that had no room in memory is done on disk."""

    def places(self, *, full: bool) -> list[str]:
        used = []

        def steps(_manifest, _source, _package, parent, _scratch):
            used.append(parent.name)
            if parent.name == "scratch":
                raise report.BuildError("no space")

        room = mock.Mock()
        room.was_full.return_value = full
        with mock.patch.object(build, "steps", steps), mock.patch.object(memory, "mounted") as mounted:
            mounted.return_value.__enter__.return_value = room
            mounted.return_value.__exit__.return_value = False
            build.make_package({}, None, Path("package"), Path("place"), Path("scratch"))
        return used

    def test_it_is_built_on_disk(self):
        self.assertEqual(self.places(full=True), ["scratch", "place"])

    def test_another_failure_is_reported(self):
        with self.assertRaisesRegex(report.BuildError, "no space"):
            self.places(full=False)


if __name__ == "__main__":
    unittest.main()
