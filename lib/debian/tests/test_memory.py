"""Work in memory: when it is chosen, and that a full one is noticed."""

import contextlib
import errno
import io
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
memory.in_cgroups = lambda own, mount: sys.maxsize
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

    def is_chosen(
        self,
        *,
        user: int = 0,
        free: int = 64 << 30,
        group: int = sys.maxsize,
        environment: dict | None = None,
        failure: Exception | None = None,
    ) -> bool:
        with (
            mock.patch.object(os, "geteuid", return_value=user),
            mock.patch.object(memory, "available", return_value=free),
            mock.patch.object(memory, "in_cgroups", return_value=group),
            mock.patch.object(memory, "_mount", return_value=True),
            mock.patch.object(memory.run, "run", side_effect=failure),
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
        self.assertFalse(self.is_chosen(group=memory.LEAST))
        self.assertFalse(self.is_chosen(environment={"TMPDIR": str(self.work)}))

    def test_a_failed_clean_up_hides_no_result(self):
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            self.assertTrue(self.is_chosen(failure=report.BuildError("no umount")))
        self.assertIn("no umount", printed.getvalue())

    def group(self, path: str, **files: int | str) -> None:
        directory = self.work / "cgroup" / path
        directory.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (directory / name.replace("_", ".", 1)).write_text(f"{value}\n")

    def in_cgroups(self, lines: str) -> int:
        own = self.work / "own"
        own.write_text(lines)
        return memory.in_cgroups(own, self.work / "cgroup")

    def test_the_smallest_limit_of_all_cgroups_counts(self):
        self.group("a/b", memory_max="max", memory_high=9 << 30, memory_current=1 << 30, memory_stat="inactive_file 0")
        self.assertEqual(self.in_cgroups("0::/a/b\n"), 8 << 30)
        # The page cache gives way.
        self.group("a", memory_max=4 << 30, memory_current=3 << 30, memory_stat="file 9\ninactive_file 5\nactive_file 6")
        self.assertEqual(self.in_cgroups("0::/a/b\n"), (1 << 30) + 11)
        # Control: another group's limit is not ours. A container sees its own one as the root, whatever its path.
        self.assertEqual(self.in_cgroups("0::/c\n"), sys.maxsize)
        self.group("", memory_max=2 << 30, memory_current=1 << 30, memory_stat="inactive_file 0")
        self.assertEqual(self.in_cgroups("0::/../../c\n"), 1 << 30)

    def test_cgroups_of_version_1_count(self):
        limit = {"memory_limit_in_bytes": 3 << 30, "memory_usage_in_bytes": 1 << 30, "memory_stat": "inactive_file 0"}
        self.group("memory/x", **limit)
        self.assertEqual(self.in_cgroups("9:cpu:/y\n4:memory:/x\n0::/\n"), 2 << 30)
        self.assertEqual(self.in_cgroups("9:cpu:/x\n0::/\n"), sys.maxsize)

    def test_without_mount_it_is_built_on_disk(self):
        with (
            mock.patch.object(memory.ctypes, "CDLL") as libc,
            mock.patch.object(memory.subprocess, "run", side_effect=FileNotFoundError("mount")),
            contextlib.redirect_stderr(io.StringIO()) as printed,
        ):
            libc.return_value.unshare.return_value = 0
            self.assertFalse(memory._mount(self.work, 1 << 20))
        self.assertIn("building on disk: mount", printed.getvalue())

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

    def places(self, *, full: bool, failure: Exception | None = None) -> list[str]:
        used = []

        def steps(_manifest, _source, _package, parent, _scratch):
            used.append(parent.name)
            if parent.name == "scratch":
                raise failure or report.BuildError("no space")

        room = mock.Mock()
        room.was_full.return_value = full
        with mock.patch.object(build, "steps", steps), mock.patch.object(memory, "mounted") as mounted:
            mounted.return_value.__enter__.return_value = room
            mounted.return_value.__exit__.return_value = False
            build.make_package({}, None, Path("package"), Path("place"), Path("scratch"))
        return used

    def test_it_is_built_on_disk(self):
        self.assertEqual(self.places(full=True), ["scratch", "place"])
        self.assertEqual(self.places(full=True, failure=OSError(errno.ENOSPC, "no space")), ["scratch", "place"])

    def test_another_failure_is_reported(self):
        with self.assertRaisesRegex(report.BuildError, "no space"):
            self.places(full=False)
        with self.assertRaisesRegex(OSError, "no access"):
            self.places(full=False, failure=OSError(errno.EACCES, "no access"))


if __name__ == "__main__":
    unittest.main()
