"""Finds the owner of a connection: the kernel shows the user of each TCP socket on this host (proc_pid_net(5))."""

import ipaddress
import struct

TABLES = {4: "/proc/net/tcp", 6: "/proc/net/tcp6"}


def uid_of_peer(peer, own):
    """Returns the user id at the other end of a loopback connection; None if it is unknown."""
    ours = (encode(peer), encode(own))
    with open(TABLES[ipaddress.ip_address(peer[0]).version], encoding="ascii") as table:
        for line in table:
            fields = line.split()
            if (fields[1], fields[2]) == ours:
                # A closed socket has no inode, and its user id would be shown as root's.
                return int(fields[7]) if fields[9] != "0" else None
    return None


def encode(address):
    """Returns an address and port as in the kernel's table: words of four bytes in host byte order."""
    packed = ipaddress.ip_address(address[0]).packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
