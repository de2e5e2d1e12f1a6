"""The server's own certificate, for those who have none: made when it is first asked for, and anew before it ends.

It is no authority: whoever trusts it trusts this one server, and nothing that its key could sign.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from janflask.errors import StoreBusyError
from janflask.files import by_path
from janflask.files.disk import opened_root
from janflask.files.locks import lock_until
from janflask.files.private import NotPrivateError, read_private
from janflask.settings import Settings
from janflask.settings.hosts import ANY, address_of, plain_host
from janflask.tls.pair import MAX_SIZE, BadPairError, Facts, day, read_pair
from janflask.tls.trust import public_path

PAIR = "self-signed.pem"  # certificate and key, in secrets/
LIFE = timedelta(days=800)  # Apple's systems take no more than 825
RENEWED = timedelta(days=30)  # before its end
_EVERY_INTERFACE = frozenset({"0.0.0.0", "::"})  # noqa: S104


def pair_path(settings: Settings) -> Path:
    """Where the pair is, or will be."""
    return settings.secrets_dir / PAIR


def keep(settings: Settings, now: datetime | None = None) -> str | None:
    """Sees to it that there is a pair, with time left and for all names of the server.

    Gives why there is a new one; None: the one that there was does. Raises OSError and JanflaskError.
    """
    now = now or datetime.now(UTC)
    path = pair_path(settings)
    with opened_root(path.parent, make=True) as folder:
        if not lock_until(folder, time.monotonic() + settings.lock_timeout):  # servers that start together agree on one
            raise StoreBusyError(f"{path.parent} is locked by another process")
        wanted = names(settings)
        reason = _why_another(path, wanted, now)
        if reason is not None:
            by_path.replace(path, _make(wanted, now), durable=True, mode=0o600)
        public = x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(serialization.Encoding.PEM)
        if not _holds(public_path(settings), public):
            by_path.replace(public_path(settings), public, durable=True, mode=0o644)
    return reason


def is_due(facts: Facts, now: datetime | None = None) -> bool:
    """Whether a certificate is about to end."""
    return facts.not_after - (now or datetime.now(UTC)) < RENEWED


def names(settings: Settings) -> tuple[str, ...]:
    """What the server is called: by this machine, by its settings, and by those whom it lets call it so."""
    found = ["localhost", "127.0.0.1", "::1"]
    for name in (socket.gethostname(), settings.host, *settings.allowed_hosts):
        with suppress(ValueError):  # one with a wildcard is no name
            found.append(plain_host(name.partition("%")[0]))  # a link's name is this machine's own
    return tuple(dict.fromkeys(name for name in found if name not in _EVERY_INTERFACE and ANY not in name))


def _why_another(path: Path, wanted: tuple[str, ...], now: datetime) -> str | None:
    try:
        read_private(path, MAX_SIZE)
        facts = read_pair(path, None).facts
    except FileNotFoundError:
        return "there is none yet"
    except (NotPrivateError, BadPairError) as error:
        return f"{path} cannot be used: {error}"
    if (problem := facts.problem(now)) is not None:
        return f"it {problem}"
    if is_due(facts, now):
        return f"it ends on {day(facts.not_after)}"
    missing = [name for name in wanted if name not in facts.names]
    return f"it is not for {', '.join(missing)}" if missing else None


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False


def _make(wanted: tuple[str, ...], now: datetime) -> bytes:
    """Certificate and key in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "janflask")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # a client's clock may be late
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName(list(map(_alternative, wanted))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_only_signs(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    return certificate.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)


def _only_signs() -> x509.KeyUsage:
    others: dict[str, bool] = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign"), False
    )
    return x509.KeyUsage(digital_signature=True, crl_sign=False, encipher_only=False, decipher_only=False, **others)


def _alternative(name: str) -> x509.GeneralName:
    address: IPv4Address | IPv6Address | None = address_of(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)
