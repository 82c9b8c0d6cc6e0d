"""An http proxy that leads every CONNECT to one port of this host.

    connect_proxy.py PORT

It prints its port, and logs the targets.
"""

import socket
import sys
import threading

PORT = int(sys.argv[1])


def copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while some := source.recv(65536):
            target.sendall(some)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(client: socket.socket) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(1)
    print(head.split()[1].decode(), file=sys.stderr, flush=True)
    server = socket.create_connection(("127.0.0.1", PORT))
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    threading.Thread(target=copy, args=(client, server), daemon=True).start()
    copy(server, client)


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
