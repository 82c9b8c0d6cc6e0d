"""Invalid names are reported as unknown and do not end the proxy."""

import asyncio
import socket
import sys
import types
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

# The real module ends the process, and needs mitmproxy.
sys.modules["closing"] = types.SimpleNamespace(closed_call=lambda function: function)

import resolver  # noqa: E402


class Open:
    def now(self):
        return self

    def is_named(self, host, port):
        return host == "localhost"


class Resolver(unittest.TestCase):
    def resolve(self, *names, port=443):
        async def ask():
            loop = asyncio.get_running_loop()
            resolver.guard(loop, Open(), None)
            found = []
            for name in names:
                try:
                    found.append(await loop.getaddrinfo(name, port))
                except socket.gaierror as error:
                    found.append(error.errno)
            return found

        return asyncio.run(ask())

    def test_invalid_names_are_unknown(self):
        names = ["a..example.com", "x" * 64 + ".example.com", "a\0b.example.com", "\udcff.example.com", ".example.com"]
        # Without a network, as in a Nix build, a name that is looked up is unknown for now.
        self.assertLessEqual(set(self.resolve(*names)), {socket.EAI_NONAME, socket.EAI_AGAIN})

    def test_a_valid_name_is_found(self):
        self.assertTrue(self.resolve("localhost")[0])


if __name__ == "__main__":
    unittest.main()
