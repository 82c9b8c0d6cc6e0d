"""agent-mcp connect SOCKET: connects standard input and output to a relay's socket.

mcp-proxy starts this instead of a server. The relay has started the server itself, in parallel with the others.
"""

import os
import select
import socket
import sys

CHUNK = 1 << 16


def main(arguments: list[str]) -> int:
    (path,) = arguments
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        poll = select.poll()
        poll.register(sys.stdin, select.POLLIN)
        poll.register(connection, select.POLLIN)
        while True:
            for ready, _ in poll.poll():
                # Stop when either side ends: mcp-proxy or the relay.
                if ready == connection.fileno():
                    data = connection.recv(CHUNK)
                    if not data:
                        return 0
                    while data:
                        data = data[os.write(1, data) :]
                else:
                    data = os.read(0, CHUNK)
                    if not data:
                        return 0
                    connection.sendall(data)
