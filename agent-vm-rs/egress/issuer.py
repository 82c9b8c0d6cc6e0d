"""Adds what current Python and OpenSSL require of certificates to an older mitmproxy."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from mitmproxy import certs, version

# First version whose certificates name their issuer's key, as RFC 5280 (4.2.1.1) says and Python 3.13 requires.
FIRST = 11


def patch():
    if int(version.VERSION.partition(".")[0]) < FIRST:
        certs.dummy_cert = naming_issuer(certs.dummy_cert)


def naming_issuer(make):
    def dummy_cert(privkey, cacert, *arguments, **named):
        made = x509.load_pem_x509_certificate(make(privkey, cacert, *arguments, **named).to_pem())
        builder = (
            x509.CertificateBuilder()
            .subject_name(made.subject)
            .issuer_name(made.issuer)
            .public_key(made.public_key())
            .serial_number(made.serial_number)
            .not_valid_before(made.not_valid_before)
            .not_valid_after(made.not_valid_after)
        )
        for extension in made.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(cacert.public_key())
        builder = builder.add_extension(issuer, critical=False)
        return certs.Cert(builder.sign(privkey, hashes.SHA256()))

    return dummy_cert
