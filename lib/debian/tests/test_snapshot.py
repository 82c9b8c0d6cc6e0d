"""The snapshot of Debian: where packages come from, and that an archive that does not answer is not waited for."""

import http.server
import os
import socket
import sys
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from builder import report, root, run, snapshot  # noqa: E402

SPEC = {
    "suite": "trixie",
    "snapshot": "20260102T030405Z",
    "packages": ["dash"],
    "architecture": "amd64",
    "locale": "C.UTF-8",
    "emptyDirectories": ["/usr/share/man/man1"],
}


def choose(**environment: str) -> tuple[snapshot.Source, list[str]]:
    """Returns the chosen source and the messages."""
    without_proxy = {"no_proxy": "*"}
    with (
        mock.patch.dict(os.environ, {**without_proxy, **environment}),
        mock.patch.object(report, "say") as say,
    ):
        for name in ("AGENT_VM_DEBIAN_MIRROR", "AGENT_VM_DEBIAN_SNAPSHOT"):
            if name not in environment:
                os.environ.pop(name, None)
        return snapshot.choose(SPEC), [call.args[0] for call in say.call_args_list]


class Archive(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.send_response(200 if self.path.startswith("/archive/") else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Snapshot(unittest.TestCase):
    def setUp(self) -> None:
        self.server = http.server.HTTPServer(("127.0.0.1", 0), Archive)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"

    def test_packages_come_from_the_snapshot_of_the_spec(self) -> None:
        source, said = choose(AGENT_VM_DEBIAN_SNAPSHOT=f"{self.origin}/archive/", AGENT_VM_DEBIAN_MIRROR="http://mirror.test")
        self.assertEqual(said, [])
        self.assertEqual(Archive.asked[-1], "/archive/debian/20260102T030405Z/dists/trixie/InRelease")
        start = f"deb [check-valid-until=no] {self.origin}/archive"
        self.assertEqual(
            source.mirrors,
            [
                f"{start}/debian/20260102T030405Z/ trixie main",
                f"{start}/debian/20260102T030405Z/ trixie-updates main",
                f"{start}/debian-security/20260102T030405Z/ trixie-security main",
            ],
        )
        self.assertEqual(source.described()["snapshot"], "2026-01-02T03:04:05Z")

    def test_without_the_archive_they_come_from_the_mirror_and_that_is_said_once(self) -> None:
        for archive in (f"{self.origin}/else", "http://127.0.0.1:1", "no address", f"{self.origin}/a b"):
            with mock.patch.object(threading, "excepthook") as failed:
                source, said = choose(AGENT_VM_DEBIAN_SNAPSHOT=archive, AGENT_VM_DEBIAN_MIRROR="http://mirror.test")
            failed.assert_not_called()
            self.assertEqual((source.mirrors, source.date), (["http://mirror.test"], None))
            self.assertIsNone(source.described()["snapshot"])
            (message,) = said
            self.assertIn(archive, message)
            self.assertIn("http://mirror.test", message)

    def test_a_silent_archive_is_not_waited_for(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            began = time.monotonic()
            source, said = choose(AGENT_VM_DEBIAN_SNAPSHOT=f"http://127.0.0.1:{silent.getsockname()[1]}")
            self.assertLess(time.monotonic() - began, snapshot.ANSWER + 2)
        self.assertEqual(source.mirrors, [])
        self.assertEqual(len(said), 1)

    def test_none_asks_no_archive(self) -> None:
        before = len(Archive.asked)
        self.assertEqual(choose(AGENT_VM_DEBIAN_SNAPSHOT="none"), (snapshot.Source([], None), []))
        self.assertEqual(len(Archive.asked), before)

    def test_the_mirrors_are_mmdebstraps_last_arguments(self) -> None:
        with mock.patch.object(run, "run") as called:
            root.bootstrap(SPEC, Path("overlay"), Path("work"), Path("scratch"), ["deb x", "deb y"])
        self.assertEqual(called.call_args.args[0][-4:], ["trixie", "work/root.tar", "deb x", "deb y"])


if __name__ == "__main__":
    unittest.main()
