"""A certificate and its key, read from their files together, and what a server needs to show them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

MINIMA = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
PROTOCOL = "http/1.1"  # what is spoken over it
MAX_SIZE = 1 << 20  # bytes of a file; a long chain has some thousand


class BadPairError(ValueError):
    """A certificate and a key that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says of itself."""

    names: tuple[str, ...]  # the host names and addresses that it is for
    not_before: datetime
    not_after: datetime
    sha256: str  # its fingerprint, as browsers and openssl show it

    def problem(self, now: datetime | None = None) -> str | None:
        """Why clients will refuse it, in words that follow its name; None: its time is right."""
        now = now or datetime.now(UTC)
        if now > self.not_after:
            return f"has expired on {day(self.not_after)}"
        return f"is not valid before {day(self.not_before)}" if now < self.not_before else None


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate that can be shown."""

    context: ssl.SSLContext
    facts: Facts


class ServerSocket(ssl.SSLSocket):
    """Says goodbye before it closes. Python's own just lets go: to the client that looks like an answer cut off."""

    def shutdown(self, how: int) -> None:
        """Ends the secured part of the connection, too."""
        self._say_goodbye()
        super().shutdown(how)

    def close(self) -> None:
        self._say_goodbye()
        super().close()

    def _say_goodbye(self) -> None:
        """Waits for nothing, neither for room nor for the client's own goodbye."""
        with suppress(OSError, ValueError):  # it is gone, or its handshake never came to an end
            self.setblocking(False)
            self.unwrap()


def day(moment: datetime) -> str:
    """A date for people."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def read_pair(
    certificate: Path, key: Path | None, minimum: str = "1.2", adjust: Callable[[ssl.SSLContext], None] | None = None
) -> Pair:
    """The pair in two files in PEM, or in one.

    Args:
        certificate: the server's own first, then those between it and its authority.
        key: None: it is in the certificate's file.
        minimum: lowest version of TLS, one of ``MINIMA``.
        adjust: does what is left to do to the context.

    Raises BadPairError.
    """
    facts = read_facts(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = ServerSocket
    context.minimum_version = MINIMA[minimum]
    context.options |= ssl.OP_NO_RENEGOTIATION  # it costs a client nothing and the server a handshake
    context.set_alpn_protocols([PROTOCOL])
    place = key or certificate
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except _EncryptedError:
        raise BadPairError(
            f"the key in {place} is encrypted, and nobody is there to give its passphrase: "
            f"`openssl pkey -in {place} -out FILE` writes it without"
        ) from None
    except ssl.SSLError as error:
        raise BadPairError(_why_no_pair(certificate, place, error)) from None
    except OSError as error:
        raise BadPairError(f"the key in {place} cannot be read: {error.strerror or error}") from None
    if adjust is not None:
        try:
            adjust(context)
        except OSError as error:
            raise BadPairError(f"what else gunicorn's settings say of TLS cannot be done: {error}") from None
    return Pair(context, facts)


def read_facts(certificate: Path) -> Facts:
    """What the first certificate in a file says of itself. Raises BadPairError."""
    try:
        return _facts_of(_read_certificate(certificate))
    except ValueError as error:
        raise BadPairError(str(error)) from None


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise BadPairError(f"the certificate in {path} cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_SIZE:
        raise BadPairError(f"{path} is larger than {MAX_SIZE >> 20} MiB: no certificate is")
    try:
        return x509.load_pem_x509_certificates(data)[0]
    except (ValueError, x509.InvalidVersion):
        raise BadPairError(f"{path} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)") from None


def _facts_of(certificate: x509.Certificate) -> Facts:
    """What it says of itself; no names where it has none that clients look at. Raises ValueError for odd times."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = alternatives.get_values_for_type(x509.DNSName)
        addresses = alternatives.get_values_for_type(x509.IPAddress)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        hosts, addresses = [], []  # whoever connects will be told
    return Facts(
        names=(*hosts, *map(str, addresses)),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=certificate.fingerprint(SHA256()).hex(":").upper(),
    )


class _EncryptedError(Exception):
    pass


def _no_passphrase() -> str:
    """Else OpenSSL would ask for it at the terminal, and the server would wait there."""
    raise _EncryptedError


def _why_no_pair(certificate: Path, place: Path, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {place} is not that of the certificate in {certificate}"
    if error.reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"):
        return f"the certificate in {certificate} is too weak for OpenSSL ({error.reason})"
    return f"{place} holds no private key in PEM that OpenSSL can use ({error.reason or error})"
