"""Tries the TCP ports of an address, up to the one that is given. Prints the open ones, then how many were refused; a port
that gives neither answer ends this with a traceback.
"""

import errno
import socket
import struct
import sys

TIMEOUT = 5


def willing():
    one = socket.socket()
    # And not Python's own time-out, which takes more calls of the kernel for each port.
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
        # What was refused can be used again.
        assert code == errno.ECONNREFUSED, (port, code)
        refused += 1
print(f"open {opened}, refused {refused}")
