"""Runs in a guest, and as root if a destination has the kind icmp.

Prints for each destination KIND:ADDRESS:PORT what comes back within three seconds: "answered", an error such as
"Connection refused", or "silent".
"""

import errno
import os
import socket
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

TIMEOUT = 3


def connected(one):
    try:
        one.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        return False
    return True


def tcp(family, place):
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.settimeout(TIMEOUT)
            one.connect(place)
            # An ICMP error that arrives while Python waits can get lost (one of 5,000 in an idle guest with Linux 6.12).
            # Then connect() returns, although nothing has answered.
            if connected(one):
                return


def udp(family, place):
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.settimeout(TIMEOUT)
        one.connect(place)
        # A DNS query for the name servers of ".", because some destinations are resolvers.
        one.send(struct.pack("!HHHHHHBHH", 1, 0x0100, 1, 0, 0, 0, 0, 2, 1))
        one.recv(4096)


def icmp(family, place):
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMP) as one:
        one.settimeout(TIMEOUT)
        one.connect(place)
        # Echo request; the checksum completes the sum of these eight bytes to 0xFFFF.
        one.send(struct.pack("!BBHHH", 8, 0, 0xFFFF - 0x0800, 0, 0))
        # Waits for the echo reply: a router or the kernel may send an error first.
        while one.recv(4096)[20] != 0:
            pass


def reach(destination):
    kind, rest = destination.split(":", 1)
    address, port = rest.rsplit(":", 1)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        {"tcp": tcp, "udp": udp, "icmp": icmp}[kind](family, (address, int(port)))
    except TimeoutError as error:
        # A timeout of the kernel has an error number, and one of Python has none.
        return "silent" if error.errno is None else os.strerror(error.errno)
    except OSError as error:
        return os.strerror(error.errno)
    return "answered"


with ThreadPoolExecutor(32) as pool:
    for destination, said in zip(sys.argv[1:], pool.map(reach, sys.argv[1:])):
        print(destination, said)
