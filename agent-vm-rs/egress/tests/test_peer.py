"""Whose connection it is."""

import os
import socket
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from peer import uid_of_peer


class Peer(unittest.TestCase):
    def test_a_connection_that_its_owner_has_closed_is_nobodys(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            served, peer = listener.accept()
            with served:
                with client:
                    self.assertEqual(uid_of_peer(peer, served.getsockname()), os.getuid())
                # The kernel says that it were root's.
                self.assertIsNone(uid_of_peer(peer, served.getsockname()))


if __name__ == "__main__":
    unittest.main()
