"""A TLS server that responds with the bytes a test specifies, valid or not, and functions that build HTTP/2 frames."""

import socket
import ssl
import struct
import subprocess
import threading
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PUSH, GOAWAY = 0, 1, 3, 4, 5, 7
END_STREAM, END_HEADERS = 1, 4


class Scripted:
    """Responds to the head of a request with the pieces of `answer`, one write each."""

    def __init__(self, test, context, protocols=("http/1.1",)):
        context.set_alpn_protocols(list(protocols))
        self.answer = []
        # While set, connections stay open after the response.
        self.hold = threading.Event()
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()
        test.addClassCleanup(self._listener.close)

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        try:
            with self._context.wrap_socket(connection, server_side=True) as secured:
                secured.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if secured.selected_alpn_protocol() == "h2":
                    secured.sendall(frame(SETTINGS, 0, 0, b""))
                    until_headers(secured)
                else:
                    got = b""
                    while b"\r\n\r\n" not in got:
                        got += secured.recv(1 << 16)
                for piece in self.answer:
                    secured.sendall(piece)
                if self.hold.is_set():
                    while secured.recv(1 << 16):
                        pass
                secured.unwrap()
        except OSError:
            pass


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literals(*fields):
    """Encodes header fields with HPACK, without tables and without Huffman coding (RFC 7541, 6.2.2)."""
    short = lambda text: bytes([len(text)]) + text
    return b"".join(b"\x00" + short(name.encode()) + short(value.encode()) for name, value in fields)


def frames(data):
    """Yields kind, flags, stream and payload of each complete frame."""
    while len(data) >= 9:
        length = int.from_bytes(data[:3], "big")
        yield data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]
        data = data[9 + length :]


def until_headers(connection):
    got = b""
    while not any(kind == HEADERS for kind, *_ in frames(got.removeprefix(PREFACE))):
        piece = connection.recv(1 << 16)
        if not piece:
            raise ConnectionError
        got += piece


def fields_of(mitmdump, data):
    """Returns all header fields in a connection's frames, decoded by mitmproxy's HPACK library."""
    python = Path(mitmdump).resolve().read_text(errors="replace").splitlines()[0].removeprefix("#!").strip()
    blocks = b"".join(payload.hex().encode() + b"\n" for kind, _, _, payload in frames(data) if kind == HEADERS)
    program = (
        "import sys, hpack\ndecoder = hpack.Decoder()\n"
        "for line in sys.stdin: print(decoder.decode(bytes.fromhex(line)))"
    )
    return subprocess.run([python, "-c", program], input=blocks, capture_output=True, check=True).stdout
