"""enter_network.py PID PROGRAM…: runs a program in the network namespace of a process of the same user.

nsenter(1) cannot do this if the process has a user namespace below the one that owns the network.
"""

import ctypes
import fcntl
import os
import sys

# ioctl_ns(2), clone(2)
NS_GET_USERNS, CLONE_NEWUSER, CLONE_NEWNET = 0xB701, 0x10000000, 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
network = os.open(f"/proc/{sys.argv[1]}/ns/net", os.O_RDONLY)
for descriptor, kind in ((fcntl.ioctl(network, NS_GET_USERNS), CLONE_NEWUSER), (network, CLONE_NEWNET)):
    if libc.setns(descriptor, kind) != 0:
        sys.exit(f"setns: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[2], sys.argv[2:])
