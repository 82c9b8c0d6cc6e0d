"""BUNDLE OUT: writes the certificates of a PEM bundle as a Java key store (JKS), which every Java reads.

The format is that of sun.security.provider.JavaKeyStore: entries with an alias, a time and a certificate, then a digest with the
password. Java reads a trust store without one and does not check the digest; it is that of the usual password.
"""

import base64
import hashlib
import re
import struct
import sys

MAGIC, VERSION, TRUSTED = 0xFEEDFEED, 2, 2
PASSWORD = "changeit"
PEM = re.compile("-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def store(certificates: list[bytes]) -> bytes:
    body = struct.pack(">III", MAGIC, VERSION, len(certificates))
    for number, certificate in enumerate(certificates):
        body += struct.pack(">I", TRUSTED) + text(f"authority-{number}") + struct.pack(">Q", 0)
        body += text("X.509") + struct.pack(">I", len(certificate)) + certificate
    return body + hashlib.sha1(PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


def main() -> None:
    bundle, out = sys.argv[1:]
    with open(bundle, encoding="ascii", errors="replace") as file:
        certificates = [base64.b64decode(body) for body in PEM.findall(file.read())]
    with open(out, "wb") as file:
        file.write(store(certificates))


main()
