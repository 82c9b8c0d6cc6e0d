"""IANA's special-purpose ranges: their first and last addresses, the addresses next to them, and IPv4 within IPv6."""

import ipaddress
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from special_addresses import is_global

SPECIAL = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24
192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4
240.0.0.0/4 255.255.255.255/32
::/128 ::1/128 ::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20
5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8 ::ffff:0:0:0/96 4000::/3 e000::/4
""".split()
# Public addresses next to a special range.
PUBLIC = """
1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0
172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0 192.31.195.255 192.31.197.0 192.52.192.255 192.52.194.0
192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 192.175.47.255 192.175.49.0 198.17.255.255 198.20.0.0
198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255
2000:: 2001:200:: 2001:db7:ffff:: 2001:db9:: 2003:: 2620:4f:7fff:: 2620:4f:8001:: 3ffe:: 2606:4700:4700::1111
""".split()


class Special(unittest.TestCase):
    def test_special_ranges_are_not_global(self):
        for block in map(ipaddress.ip_network, SPECIAL):
            for address in (block[0], block[-1], block[block.num_addresses // 2]):
                self.assertFalse(is_global(address), (address, block))

    def test_addresses_next_to_special_ranges_are_global(self):
        for address in PUBLIC:
            self.assertTrue(is_global(ipaddress.ip_address(address)), address)

    def test_an_ipv4_address_within_ipv6_decides(self):
        for within in ("::ffff:", "64:ff9b::"):
            for block in (block for block in SPECIAL if "." in block):
                address = str(ipaddress.ip_network(block)[0])
                self.assertFalse(is_global(ipaddress.ip_address(within + address)), within + address)
            self.assertTrue(is_global(ipaddress.ip_address(f"{within}93.184.215.14")))
        # 6to4, IPv4-compatible and IPv4-translated addresses are never global.
        for address in ("2002:5db8:d70e::", "::93.184.215.14", "::ffff:0:93.184.215.14", "2001:0:5db8:d70e::"):
            self.assertFalse(is_global(ipaddress.ip_address(address)), address)


if __name__ == "__main__":
    unittest.main()
