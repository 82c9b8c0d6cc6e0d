"""The trust store of the guest's Java."""

import base64
import hashlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent.parent / "policy/java-trust-store.py"
PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


class TrustStore(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.bundle, self.out = Path(scratch.name, "bundle.pem"), Path(scratch.name, "java.jks")

    def make(self, bundle):
        self.bundle.write_text(bundle)
        subprocess.run([sys.executable, "-I", "-S", str(SCRIPT), str(self.bundle), str(self.out)], check=True)
        return self.out.read_bytes()

    def test_each_certificate_is_an_entry(self):
        certificates = [b"first certificate" * 9, b"second"]
        text = "# A name in UTF-8: \u00e9\n".join(PEM.format(base64.encodebytes(one).decode().strip()) for one in certificates)
        store = self.make(text)
        self.assertEqual(struct.unpack(">III", store[:12]), (0xFEEDFEED, 2, 2))
        found, at = [], 12
        for _ in certificates:
            self.assertEqual(store[at : at + 4], b"\0\0\0\2")
            at += 4
            # The alias, with the time after it, and the kind of the certificate.
            for after in (8, 0):
                (length,) = struct.unpack(">H", store[at : at + 2])
                at += 2 + length + after
            (length,) = struct.unpack(">I", store[at : at + 4])
            found.append(store[at + 4 : at + 4 + length])
            at += 4 + length
        self.assertEqual(found, certificates)
        digest = hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + store[:-20]).digest()
        self.assertEqual((store[at:], len(store) - at), (digest, 20))

    def test_java_reads_it(self):
        if shutil.which("keytool") is None or shutil.which("openssl") is None:
            self.skipTest("no keytool or no openssl on PATH")
        key = self.bundle.with_name("key.pem")
        made = "req -x509 -newkey rsa:2048 -nodes -subj /CN=test -days 1".split()
        command = ["openssl", *made, "-keyout", str(key), "-out", str(self.bundle)]
        subprocess.run(command, check=True, capture_output=True)
        self.make(self.bundle.read_text())
        list_ = ["keytool", "-list", "-keystore", str(self.out), "-storepass", "changeit"]
        said = subprocess.run(list_, check=True, capture_output=True, text=True).stdout
        self.assertIn("trustedCertEntry", said)


if __name__ == "__main__":
    unittest.main()
