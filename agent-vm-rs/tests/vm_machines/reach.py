"""Run in a guest, by its root for icmp: says of each destination KIND:ADDRESS:PORT what comes back from it within three
seconds, one line each: "answered", an error such as "Connection refused", or "silent".
"""

import os
import socket
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

TIMEOUT = 3


def tcp(family, place):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(TIMEOUT)
        one.connect(place)


def udp(family, place):
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.settimeout(TIMEOUT)
        one.connect(place)
        # A question of DNS, for the resolvers among them: the servers of ".".
        one.send(struct.pack("!HHHHHHBHH", 1, 0x0100, 1, 0, 0, 0, 0, 2, 1))
        one.recv(4096)


def icmp(family, place):
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMP) as one:
        one.settimeout(TIMEOUT)
        one.connect(place)
        # Echo request; the checksum of these eight bytes is what the first pair lacks.
        one.send(struct.pack("!BBHHH", 8, 0, 0xFFFF - 0x0800, 0, 0))
        # Its answer, and not an error that a router or the kernel sends instead.
        while one.recv(4096)[20] != 0:
            pass


def reach(destination):
    kind, rest = destination.split(":", 1)
    address, port = rest.rsplit(":", 1)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        {"tcp": tcp, "udp": udp, "icmp": icmp}[kind](family, (address, int(port)))
    except TimeoutError as error:
        # The kernel's own time-out has a number.
        return "silent" if error.errno is None else os.strerror(error.errno)
    except OSError as error:
        return os.strerror(error.errno)
    return "answered"


with ThreadPoolExecutor(32) as pool:
    for destination, said in zip(sys.argv[1:], pool.map(reach, sys.argv[1:])):
        print(destination, said)
