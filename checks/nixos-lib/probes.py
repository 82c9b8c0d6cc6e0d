"""probes NAME tries one operation that a unit may forbid; the exit status is 0 if the operation succeeded."""

import ctypes
import mmap
import os
import sys

ADD_KEY, KEYCTL = 248, 250
KEYCTL_SEARCH = 10
SESSION_KEYRING, USER_KEYRING = -3, -4


def other_architecture() -> bool:
    """Executes a system call of i386: push rbx; mov eax, getpid; int 0x80; pop rbx; ret."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3")
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    return call() == os.getpid()


def make_key() -> bool:
    """Adds a key to the user's keyring, for find_key."""
    return ctypes.CDLL(None).syscall(ADD_KEY, b"user", b"probe", b"x", 1, USER_KEYRING) > 0


def find_key() -> bool:
    """Finds the user's key through the session keyring."""
    return ctypes.CDLL(None).syscall(KEYCTL, KEYCTL_SEARCH, SESSION_KEYRING, b"user", b"probe", 0) > 0


def packets() -> bool:
    """Opens a socket that sees other programs' packets."""
    import socket

    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    return True


sys.exit(not globals()[sys.argv[1]]())
