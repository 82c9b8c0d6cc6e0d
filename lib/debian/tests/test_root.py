"""The root file system: how mmdebstrap is called."""

import re
import sys
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from builder import root, run  # noqa: E402

SPEC = {"suite": "trixie", "packages": ["dash"], "architecture": "amd64", "locale": "C.UTF-8"}


class Mirror(unittest.TestCase):
    def test_a_build_gives_up_a_mirror_that_does_not_answer(self):
        with mock.patch.object(run, "run") as called:
            root.bootstrap(SPEC, Path("overlay"), Path("work"), Path("scratch"))
        text = "\n".join(called.call_args.args[0])
        http, https, retries = (
            int(re.search(rf'^--aptopt=Acquire::{name} "(\d+)"$', text, re.MULTILINE)[1])
            for name in ("http::Timeout", "https::Timeout", "Retries")
        )
        self.assertEqual(http, https)
        # Three files, and two attempts in each try.
        self.assertLessEqual(3 * 2 * http * (retries + 1), 200)


if __name__ == "__main__":
    unittest.main()
