"""The owner of a connection."""

import os
import socket
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from peer import uid_of_peer


class Peer(unittest.TestCase):
    def test_a_closed_connection_has_no_owner(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            served, peer = listener.accept()
            with served:
                with client:
                    self.assertEqual(uid_of_peer(peer, served.getsockname()), os.getuid())
                # The kernel shows root as its owner.
                self.assertIsNone(uid_of_peer(peer, served.getsockname()))


if __name__ == "__main__":
    unittest.main()
