"""Tries the TCP ports of an address, from 1 to the given port. Prints the open ports and the number of refused ones.

A port that gives neither answer ends the program with a traceback.
"""

import errno
import socket
import struct
import sys

TIMEOUT = 5


def willing():
    one = socket.socket()
    # Python's own timeout needs more system calls for each port.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", TIMEOUT, 0))
    return one


address, last = sys.argv[1], int(sys.argv[2])
opened, refused = [], 0
one = willing()
for port in range(1, last + 1):
    code = one.connect_ex((address, port))
    if code == 0:
        opened.append(port)
        one.close()
        one = willing()
    else:
        # A refused socket can be used again.
        assert code == errno.ECONNREFUSED, (port, code)
        refused += 1
print(f"open {opened}, refused {refused}")
