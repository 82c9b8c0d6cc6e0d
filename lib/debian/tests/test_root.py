"""The root file system: how mmdebstrap is called."""

import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from builder import root, run  # noqa: E402

SPEC = {
    "suite": "trixie",
    "packages": ["dash"],
    "architecture": "amd64",
    "locale": "C.UTF-8",
    "emptyDirectories": ["/usr/share/man/man1", "/usr/share/man/man8"],
}


def arguments() -> list[str]:
    with mock.patch.object(run, "run") as called:
        root.bootstrap(SPEC, Path("overlay"), Path("work"), Path("scratch"), [])
    return called.call_args.args[0]


class Mirror(unittest.TestCase):
    def test_a_build_gives_up_a_mirror_that_does_not_answer(self):
        text = "\n".join(arguments())
        http, https, retries = (
            int(re.search(rf'^--aptopt=Acquire::{name} "(\d+)"$', text, re.MULTILINE)[1])
            for name in ("http::Timeout", "https::Timeout", "Retries")
        )
        self.assertEqual(http, https)
        # Three files, and two attempts in each try.
        self.assertLessEqual(3 * 2 * http * (retries + 1), 200)


class Directories(unittest.TestCase):
    def test_the_directories_of_manuals_are_there_before_the_packages(self):
        (hook,) = (one.partition("=")[2] for one in arguments() if one.startswith("--essential-hook="))
        with tempfile.TemporaryDirectory() as made:
            subprocess.run(["sh", "-c", hook, "sh", made], check=True)
            found = sorted(str(path.relative_to(made)) for path in Path(made, "usr/share/man").iterdir())
        self.assertEqual(found, ["usr/share/man/man1", "usr/share/man/man8"])


if __name__ == "__main__":
    unittest.main()
