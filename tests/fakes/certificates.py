"""Certificates for tests: of any names and times, signed by themselves or by an authority."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Files:
    """A certificate and its key in a folder."""

    certificate: Path
    key: Path

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).serial_number


def make(
    folder: Path,
    name: str = "server",
    names: tuple[str, ...] = ("localhost", "127.0.0.1"),
    begin: datetime = NOW - timedelta(days=1),
    end: datetime = NOW + timedelta(days=30),
) -> Files:
    """A certificate that signed itself, and its key; both take the place of what is there in one step each."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), begin, end)
        .add_extension(x509.SubjectAlternativeName(list(map(_alternative, names))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    pem = serialization.Encoding.PEM
    made = Files(folder / f"{name}.crt", folder / f"{name}.key")
    _replace(made.certificate, builder.sign(key, SHA256()).public_bytes(pem))
    _replace(made.key, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return made


def encrypted(key: Path, place: Path) -> Path:
    """The same key, of no use without a passphrase."""
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    secured = serialization.BestAvailableEncryption(b"passphrase")
    place.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secured))
    return place


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _replace(path: Path, content: bytes) -> None:
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").replace(path)
