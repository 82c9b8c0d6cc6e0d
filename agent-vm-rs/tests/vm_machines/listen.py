"""Counts the TCP connections and UDP datagrams that arrive on a port of 127.0.0.1, and answers each datagram.

Prints the port first, and both counts after a datagram with the text "end".
"""

import contextlib
import selectors
import socket

tcp = socket.create_server(("127.0.0.1", 0))
tcp.setblocking(False)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(tcp.getsockname())
print(tcp.getsockname()[1], flush=True)

connections = datagrams = 0


def accept():
    global connections
    with contextlib.suppress(BlockingIOError):
        while True:
            tcp.accept()[0].close()
            connections += 1


events = selectors.DefaultSelector()
events.register(tcp, selectors.EVENT_READ)
events.register(udp, selectors.EVENT_READ)
said = b""
while said != b"end":
    if any(key.fileobj is udp for key, _ in events.select()):
        said, sender = udp.recvfrom(4096)
        udp.sendto(b"seen", sender)
        datagrams += said != b"end"
    accept()
print(f"tcp {connections}, udp {datagrams}")
