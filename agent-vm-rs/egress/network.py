"""Finds the addresses of this host and of its directly connected networks, including public addresses."""

import ipaddress
import socket
import struct

# A route with a shorter prefix is not a local network: a VPN's routes may cover the whole Internet.
SHORTEST = {4: 8, 6: 16}


def is_ours(ip) -> bool:
    return is_own(ip) or any(ip in network for network in on_link(ip.version))


def is_own(ip) -> bool:
    """Returns whether an address is this host's: a socket can be bound to no other (ip(7))."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ip), 0))
    except OSError:
        return False
    return True


def on_link(version):
    """Returns the networks that are reached without a gateway, from the kernel's tables (proc_pid_net(5))."""
    return networks4() if version == 4 else networks6()


def networks4():
    with open("/proc/net/route", encoding="ascii") as table:
        next(table, None)
        for line in table:
            fields = line.split()
            address, gateway, mask = (struct.pack("=I", int(fields[index], 16)) for index in (1, 2, 7))
            network = ipaddress.ip_network((address, int.from_bytes(mask, "big").bit_count()), strict=False)
            if gateway == bytes(4) and network.prefixlen >= SHORTEST[4]:
                yield network


def networks6():
    try:
        table = open("/proc/net/ipv6_route", encoding="ascii")
    except FileNotFoundError:
        # The kernel has no IPv6.
        return
    with table:
        for line in table:
            fields = line.split()
            network = ipaddress.ip_network((bytes.fromhex(fields[0]), int(fields[1], 16)), strict=False)
            if int(fields[4], 16) == 0 and network.prefixlen >= SHORTEST[6]:
                yield network
