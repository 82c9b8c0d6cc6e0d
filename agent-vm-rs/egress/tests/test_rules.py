"""Decisions: who is let out, and that no spelling of a private address is."""

import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rules import Rules, is_public


def rules(mode="allowlist", allow=(), deny=(), secrets=()):
    entries = lambda listed: [{"host": host, "port": port} for host, port in listed]
    return Rules.parse(
        json.dumps(
            {
                "version": 1,
                "mode": mode,
                "machine": "app-main",
                "peer_uid": 1000,
                "allow": entries(allow),
                "deny": entries(deny),
                "secrets": list(secrets),
            }
        )
    )


class Decisions(unittest.TestCase):
    def test_only_what_is_listed_is_let_out(self):
        listed = rules(allow=[("api.example.org", None), ("*.crates.example", 443), ("git.example", 22)])
        for host, port in [
            ("api.example.org", 443),
            ("API.example.ORG.", 80),
            ("static.crates.example", 443),
            ("a.b.crates.example", 443),
            ("git.example", 22),
        ]:
            self.assertTrue(listed.decide(host, port).allowed, (host, port))
        for host, port in [
            ("example.org", 443),
            ("evil-api.example.org", 443),
            ("api.example.org.evil.test", 443),
            ("api.example.org", 22),
            ("crates.example", 443),
            ("evilcrates.example", 443),
            ("static.crates.example", 80),
            ("git.example", 443),
            ("", 443),
        ]:
            self.assertFalse(listed.decide(host, port).allowed, (host, port))

    def test_the_deny_list_wins_and_none_lets_nothing_out(self):
        denied = rules(mode="open", deny=[("*.evil.test", None), ("evil.test", None)])
        self.assertFalse(denied.decide("a.evil.test", 443).allowed)
        self.assertTrue(denied.decide("good.test", 443).allowed)
        self.assertTrue(denied.decide("good.test", 25).allowed)
        self.assertFalse(rules(mode="none", allow=[("*", None)]).decide("good.test", 443).allowed)

    def test_no_mode_lets_the_guest_to_the_host_or_its_network(self):
        anything = [rules(mode="open"), rules(mode="monitor", allow=[("*", None), ("*", 8080)])]
        for host in [
            "localhost",
            "a.localhost",
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "10.0.2.2",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "169.254.169.254",
            "[::1]",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
            "fe80::1",
            "fd00:ec2::254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "224.0.0.1",
            "ff02::1",
            "240.0.0.1",
            "255.255.255.255",
        ]:
            for one in anything:
                self.assertFalse(one.decide(host, 80).allowed, (one.mode, host))
        for host in ["1.1.1.1", "2606:4700:4700::1111"]:
            for one in anything:
                self.assertTrue(one.decide(host, 80).allowed, (one.mode, host))

    def test_a_private_address_is_let_out_if_it_is_named(self):
        named = rules(allow=[("127.0.0.1", 8080), ("localhost", 9090)])
        self.assertTrue(named.decide("127.0.0.1", 8080).allowed)
        self.assertTrue(named.is_named("localhost", None))
        self.assertFalse(named.decide("127.0.0.1", 80).allowed)
        self.assertFalse(named.decide("127.0.0.2", 8080).allowed)
        # A public name that resolves to it is not named.
        self.assertFalse(rules(allow=[("rebind.test", None)]).is_named("rebind.test", None))

    def test_resolved_addresses_are_looked_at_the_same_way(self):
        self.assertTrue(is_public("93.184.215.14"))
        self.assertTrue(is_public("::ffff:93.184.215.14"))
        for address in ["127.0.0.1", "10.1.2.3", "fe80::1%eth0", "::ffff:10.1.2.3"]:
            self.assertFalse(is_public(address), address)

    def test_a_secrets_host_is_intercepted_in_every_mode(self):
        secret = {"name": "T", "host": "api.test", "placeholder": "p", "value": "v"}
        listed = rules(allow=[("api.test", None), ("other.test", None)], secrets=[secret])
        self.assertTrue(listed.intercepts("api.test"))
        self.assertFalse(listed.intercepts("other.test"))
        self.assertTrue(rules(mode="monitor").intercepts("other.test"))


if __name__ == "__main__":
    unittest.main()
