"""Self-made TLS certificates, trusted by their fingerprint and by nothing else."""

import datetime
import hashlib
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from atoll.core.errors import AtollError, Kind

VALIDITY_DAYS = 3650
"""Pinned by fingerprint, a certificate gains nothing from a short life."""
CERTIFICATE_NAME = "certificate.pem"
KEY_NAME = "certificate.key"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its private key, as PEM."""

    certificate_pem: bytes
    key_pem: bytes

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate in DER form: what callers pin (32 bytes)."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.certificate_pem.decode())).digest()

    def __repr__(self) -> str:
        return f"Certificate({self.fingerprint.hex()[:16]}…)"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a server finds its certificate and key."""

    certificate: Path
    key: Path
    fingerprint: bytes


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def make_certificate(hosts: tuple[str, ...], now_ms: int) -> Certificate:
    """Make an ECDSA P-256 key and a certificate for these host names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "atoll")])
    begin = datetime.datetime.fromtimestamp(now_ms / 1000, tz=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - datetime.timedelta(days=1))
        .not_valid_after(begin + datetime.timedelta(days=VALIDITY_DAYS))
        .add_extension(x509.SubjectAlternativeName([_alternative_name(h) for h in hosts]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def keep_certificate(folder: Path, hosts: tuple[str, ...], now_ms: int) -> TlsFiles:
    """Return the certificate kept in ``folder``; make one at the first call.

    Raises ``CONFIG`` where the files are there but not readable as a certificate.
    """
    certificate_path, key_path = folder / CERTIFICATE_NAME, folder / KEY_NAME
    if not (certificate_path.exists() and key_path.exists()):
        made = make_certificate(hosts, now_ms)
        folder.mkdir(parents=True, exist_ok=True)
        key_path.touch(mode=0o600)
        key_path.write_bytes(made.key_pem)
        certificate_path.write_bytes(made.certificate_pem)
    kept = Certificate(certificate_path.read_bytes(), key_path.read_bytes())
    try:
        fingerprint = kept.fingerprint
    except ValueError as cause:
        raise AtollError(
            Kind.CONFIG,
            "read certificate",
            "not a certificate in PEM form",
            hint="remove it and its key to have a new one made",
            about=str(certificate_path),
        ) from cause
    return TlsFiles(certificate_path, key_path, fingerprint)
