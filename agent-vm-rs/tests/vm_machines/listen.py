"""Counts the TCP connections and UDP datagrams that arrive on a port of 127.0.0.1, and answers each datagram.

Prints the port first. The answer to a datagram with the text "count", which is not counted, has both counts.
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
while True:
    ready = [key.fileobj for key, _ in events.select()]
    accept()
    if udp in ready:
        said, sender = udp.recvfrom(4096)
        asks = said == b"count"
        datagrams += not asks
        udp.sendto(f"tcp {connections}, udp {datagrams}".encode() if asks else b"seen", sender)
