"""Whose connection it is: TCP sockets of this host have an owner, which the kernel shows (proc_pid_net(5))."""

import ipaddress
import struct

TABLES = {4: "/proc/net/tcp", 6: "/proc/net/tcp6"}


def uid_of_peer(peer, own):
    """The user at the other end of a connection on the loopback; None if it is not to be found."""
    ours = (encode(peer), encode(own))
    with open(TABLES[ipaddress.ip_address(peer[0]).version], encoding="ascii") as table:
        for line in table:
            fields = line.split()
            if (fields[1], fields[2]) == ours:
                # Of one that was closed the kernel says that it were root's; it has no inode any more.
                return int(fields[7]) if fields[9] != "0" else None
    return None


def encode(address):
    """An address and port as the table has them: words of four bytes in the machine's order."""
    packed = ipaddress.ip_address(address[0]).packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
