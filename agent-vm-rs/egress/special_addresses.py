"""Classifies addresses as public or special by IANA's registries, copied here: Python versions differ in their copy.

https://www.iana.org/assignments/iana-ipv4-special-registry, .../iana-ipv6-special-registry, and .../ipv6-address-space,
read in 2025. Blocks that the registries call reachable are refused too where they belong to a mechanism and not to a host.
"""

import ipaddress

IPV4 = [
    ipaddress.ip_network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private use
        "100.64.0.0/10",  # shared address space of providers
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, and the clouds' metadata services
        "172.16.0.0/12",  # private use
        "192.0.0.0/24",  # protocol assignments, and Oracle's metadata service
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private use
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
    )
]

# All global unicast addresses. Outside of this range are loopback, link-local, unique-local, multicast and unassigned
# addresses, which need no list.
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
IPV6 = [
    ipaddress.ip_network(block)
    for block in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID, AMT, AS112…
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, in which any IPv4 address can be written
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
]

# Networks whose addresses contain an IPv4 address in the last 32 bits: RFC 4291, 2.5.5.2, and RFC 6052.
WITH_IPV4 = [ipaddress.ip_network("::ffff:0:0/96"), ipaddress.ip_network("64:ff9b::/96")]


def ipv4_within(ip):
    """Returns the IPv4 address contained in an IPv6 address, or None."""
    if ip.version == 6 and any(ip in block for block in WITH_IPV4):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return None


def is_global(ip) -> bool:
    inner = ipv4_within(ip)
    if inner is not None:
        return is_global(inner)
    if ip.version == 4:
        return not any(ip in block for block in IPV4)
    return ip in GLOBAL_UNICAST and not any(ip in block for block in IPV6)
