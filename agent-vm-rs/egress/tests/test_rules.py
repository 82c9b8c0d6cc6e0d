"""Decisions: only allowed hosts are reachable, and no spelling of a private address is."""

import ipaddress
import json
import sys
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import network
from rules import Rules, host_of, why_closed


def rules(mode="allowlist", allow=(), deny=(), secrets=()):
    entries = lambda listed: [{"host": host, "port": port} for host, port in listed]
    return Rules.parse(
        json.dumps(
            {
                "version": 2,
                "nothing": mode == "none",
                "everything": mode == "open",
                "intercept_all": mode == "monitor",
                "not_listed": "not on the allow list",
                "machine": "app-main",
                "peer_uid": 1000,
                "allow": entries(allow),
                "deny": entries(deny),
                "secrets": list(secrets),
            }
        )
    )


class Decisions(unittest.TestCase):
    def test_only_listed_hosts_are_allowed(self):
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

    def test_the_deny_list_wins_and_mode_none_allows_nothing(self):
        denied = rules(mode="open", deny=[("*.evil.test", None), ("evil.test", None)])
        self.assertFalse(denied.decide("a.evil.test", 443).allowed)
        self.assertTrue(denied.decide("good.test", 443).allowed)
        self.assertTrue(denied.decide("good.test", 25).allowed)
        self.assertFalse(rules(mode="none", allow=[("*", None)]).decide("good.test", 443).allowed)

    def test_no_mode_allows_the_host_or_its_network(self):
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
                self.assertFalse(one.decide(host, 80).allowed, (one, host))
        for host in ["1.1.1.1", "2606:4700:4700::1111"]:
            for one in anything:
                self.assertTrue(one.decide(host, 80).allowed, (one, host))

    def test_a_private_address_is_allowed_if_it_is_listed(self):
        named = rules(allow=[("127.0.0.1", 8080), ("localhost", 9090)])
        self.assertTrue(named.decide("127.0.0.1", 8080).allowed)
        self.assertTrue(named.is_named("localhost", None))
        self.assertFalse(named.decide("127.0.0.1", 80).allowed)
        self.assertFalse(named.decide("127.0.0.2", 8080).allowed)
        # A public name that resolves to it does not count.
        self.assertFalse(rules(allow=[("rebind.test", None)]).is_named("rebind.test", None))

    def test_a_name_may_lead_to_a_listed_address(self):
        named = rules(allow=[("10.0.0.5", 8443), ("fd00::5", None)])
        self.assertEqual(named.why_closed("10.0.0.5", 8443), "")
        self.assertEqual([named.why_closed("fd00::5", port) for port in (80, 443)], ["", ""])
        for address, port in [("10.0.0.5", 443), ("10.0.0.5", 0), ("10.0.0.6", 8443), ("fd00::5", 22), ("::ffff:10.0.0.5", 8443)]:
            self.assertTrue(named.why_closed(address, port), (address, port))
        # The deny list wins, and neither a pattern nor the mode opens such an address.
        for one in [
            rules(allow=[("10.0.0.5", 8443)], deny=[("10.0.0.5", None)]),
            rules(mode="open", allow=[("*", 8443), ("rebind.test", 8443)]),
        ]:
            self.assertTrue(one.why_closed("10.0.0.5", 8443))

    def test_the_reason_names_the_kind_of_an_address(self):
        own = ["127.0.0.1", "::1", "localhost", "::ffff:127.0.0.1", "198.51.100.7"]
        special = ["192.0.2.1", "203.0.113.5", "240.0.0.1", "2001:db8::1", "224.0.0.1", "198.18.0.1", "::ffff:10.0.0.5"]
        reasons = {
            "an address of the host or its network": own,
            "a private or reserved address": special,
            "an address of a metadata service": ["168.63.129.16"],
        }
        with mock.patch.object(network, "is_ours", lambda ip: str(ip) in own):
            for reason, addresses in reasons.items():
                for address in addresses:
                    self.assertEqual(rules(mode="open").decide(address, 80).reason, reason, address)

    def test_the_guest_does_not_read_which_addresses_are_of_the_hosts_networks(self):
        # The first of each pair is of the host's networks.
        pairs = [("10.1.0.1", "10.2.0.1"), ("::ffff:10.1.0.1", "fd00::5"), ("93.184.216.34", "93.184.216.35")]
        own = [own for own, _ in pairs]
        with mock.patch.object(network, "is_ours", lambda ip: str(ip) in own):
            for one in [rules(), rules(allow=[("*", None)]), rules(mode="open")]:
                logged = lambda host: one.decide(host, 22).reason
                for own, other in pairs:
                    # Control: the log tells them apart.
                    self.assertNotEqual(logged(own), logged(other), own)
                    if logged(other):
                        self.assertEqual(*(one.shown(host, 22, logged(host)) for host in (own, other)))
                self.assertEqual(one.shown("localhost", 22, logged("localhost")), "a closed address")
        denied = rules(deny=[("10.1.0.1", None)])
        self.assertEqual(denied.shown("10.1.0.1", 22, denied.decide("10.1.0.1", 22).reason), "on the deny list")

    def test_resolved_private_addresses_are_not_public(self):
        self.assertEqual(why_closed("93.184.215.14"), "")
        self.assertEqual(why_closed("::ffff:93.184.215.14"), "")
        for address in ["127.0.0.1", "10.1.2.3", "fe80::1%eth0", "::ffff:10.1.2.3"]:
            self.assertTrue(why_closed(address), address)

    def test_a_deny_entry_without_a_port_matches_every_port(self):
        denied = rules(mode="open", deny=[("evil.test", None), ("half.test", 8443)])
        self.assertEqual([denied.decide("evil.test", port).allowed for port in (22, 80, 443, 8443)], [False] * 4)
        self.assertEqual([denied.decide("half.test", port).allowed for port in (443, 8443)], [True, False])

    def test_addresses_of_this_host_and_its_networks_are_not_public(self):
        own, table = ipaddress.ip_address("93.184.216.34"), [ipaddress.ip_network("192.88.98.0/24")]
        with mock.patch.object(network, "is_own", own.__eq__), mock.patch.object(network, "networks4", lambda: table):
            for address in ["93.184.216.34", "::ffff:93.184.216.34", "192.88.98.7", "168.63.129.16", "fec0::1"]:
                self.assertTrue(why_closed(address), address)
            self.assertEqual(why_closed("93.184.216.35"), "")
        self.assertTrue(network.is_own(ipaddress.ip_address("127.0.0.1")))
        self.assertFalse(network.is_own(ipaddress.ip_address("192.0.2.77")))

    def test_networks_are_read_from_the_kernels_table(self):
        head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        row = lambda to, gateway, mask: f"e\t{word(to)}\t{word(gateway)}\t0\t0\t0\t0\t{word(mask)}\t0\t0\t0\n"
        word = lambda address: f"{int.from_bytes(ipaddress.ip_address(address).packed, sys.byteorder):08X}"
        table = head + row("0.0.0.0", "198.51.100.1", "0.0.0.0") + row("198.51.100.0", "0.0.0.0", "255.255.255.0")
        table += row("0.0.0.0", "0.0.0.0", "128.0.0.0")
        with mock.patch("builtins.open", mock.mock_open(read_data=table)):
            self.assertEqual([str(one) for one in network.networks4()], ["198.51.100.0/24"])

    def test_invalid_host_headers_name_no_host(self):
        for header, host in [("A.test:80", "a.test"), ("[::1]:80", "::1"), ("a.test:80, b", ""), ("a@b", ""), ("[::1]b", "")]:
            self.assertEqual(host_of(header), host)

    def test_other_protocols_need_an_entry_with_a_port(self):
        listed = rules(allow=[("a.test", None), ("b.test", 22)])
        self.assertEqual([listed.allows_raw("a.test", 443), listed.allows_raw("b.test", 22)], [False, True])
        self.assertFalse(rules(mode="monitor", allow=[("b.test", 22)]).allows_raw("b.test", 22))

    def test_a_name_opens_no_more_of_a_listed_address_than_its_own_entry(self):
        web = rules(allow=[("127.1", 443), ("svc.test", 443), ("127.0.0.1", None), ("fd00::5", None), ("localhost", 443)])
        for name, address in [("127.1", "127.0.0.1"), ("svc.test", "fd00::5"), ("svc.test", None)]:
            self.assertFalse(web.allows_raw_at(name, address, 443), (name, address))
        # An entry with the port opens it by name as by itself, a public address needs none, and localhost is its own entry.
        with_port = rules(allow=[("127.1", 443), ("127.0.0.1", 443)])
        self.assertTrue(with_port.allows_raw_at("127.1", "127.0.0.1", 443))
        self.assertTrue(with_port.allows_raw_at("127.0.0.1", "127.0.0.1", 443))
        self.assertTrue(web.allows_raw_at("svc.test", "93.184.215.14", 443))
        self.assertTrue(web.allows_raw_at("localhost", "127.0.0.1", 443))
        self.assertFalse(web.allows_raw_at("other.test", "93.184.215.14", 443))

    def test_a_secrets_host_is_intercepted_in_every_mode_on_its_port_only(self):
        secret = {"name": "T", "host": "api.test", "port": 8443, "placeholder": "p", "value": "v"}
        listed = rules(allow=[("api.test", None), ("other.test", None)], secrets=[secret])
        self.assertTrue(listed.intercepts("API.test.", 8443))
        self.assertEqual([one.name for one in listed.secrets_for("api.test", 8443)], ["T"])
        for host, port in [("api.test", 443), ("api.test", 80), ("other.test", 8443), ("x.api.test", 8443)]:
            self.assertFalse(listed.intercepts(host, port))
            self.assertEqual(listed.secrets_for(host, port), ())
        self.assertTrue(rules(mode="monitor").intercepts("other.test", 443))


if __name__ == "__main__":
    unittest.main()
