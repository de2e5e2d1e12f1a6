"""Whom the command line takes for the right server. Standard library only."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from janflask.settings import Settings

PUBLIC = "self-signed.crt"  # in the data folder: the certificate that the server made itself, for clients
_END = "-----END CERTIFICATE-----"
# OpenSSL's X509_V_ERR_...
_EXPIRED, _NOT_YET_VALID, _WRONG_NAME, _WRONG_ADDRESS = 10, 9, 62, 64
_UNKNOWN = {2, 18, 19, 20, 21}  # nobody whom we trust has signed it


class UntrustedError(Exception):
    """The server is not taken for the right one; the message says why and what would help."""


def public_path(settings: Settings) -> Path:
    """Where clients find the certificate that the server made itself."""
    return settings.data_dir / PUBLIC


@dataclass(frozen=True, slots=True)
class Trust:
    """What a server's certificate has to be.

    Attributes:
        context: for the connection.
        pinned: the certificate, in DER, that it has to be itself; None: one that the context takes.
        place: where the pinned one is.
    """

    context: ssl.SSLContext
    pinned: bytes | None = None
    place: Path | None = None

    def check(self, connection: ssl.SSLSocket) -> None:
        """Before anything is sent. Raises UntrustedError."""
        if self.pinned is not None and connection.getpeercert(binary_form=True) != self.pinned:
            raise UntrustedError(
                f"the server there shows another certificate than the one in {self.place}: it is not the server of "
                "these settings, or it has not taken a new certificate yet"
            )


def of_settings(settings: Settings) -> Trust:
    """For the server that these settings describe: whatever it is called here, it shows the certificate that they name.

    Raises UntrustedError if that cannot be read.
    """
    place = public_path(settings) if settings.tls_cert is None else settings.tls_cert
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the certificate itself is compared
    try:
        text = place.read_text("ascii", "replace")
        begin = text.index("-----BEGIN CERTIFICATE-----")
        pinned = ssl.PEM_cert_to_DER_cert(text[begin : text.index(_END, begin) + len(_END)])
    except OSError as error:
        raise UntrustedError(f"the server's certificate in {place} cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise UntrustedError(f"{place} holds no certificate in PEM") from None
    return Trust(context, pinned, place)


def of_any(authorities: str | None, settings: Settings) -> Trust:
    """For a server that was named: this machine's authorities, those in a file, and our own self-signed certificate.

    Raises UntrustedError for a file that cannot be used.
    """
    context = ssl.create_default_context()
    own = public_path(settings)
    for place in ([authorities] if authorities else []) + ([str(own)] if own.is_file() else []):
        try:
            context.load_verify_locations(place)
        except OSError as error:  # ssl.SSLError is one
            reason = getattr(error, "reason", None) or error.strerror or error
            raise UntrustedError(f"{place} has no certificates to trust: {reason}") from None
    return Trust(context)


def why_not(error: ssl.SSLError, authorities_variable: str) -> str:
    """What a failed connection means, in words that follow the server's URL."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
            return "speaks no HTTPS: is it http:// ?"
        return f"does not come to terms about HTTPS ({error.reason or error})"
    if error.verify_code == _EXPIRED:
        return "shows a certificate that has expired: the server needs a new one"
    if error.verify_code == _NOT_YET_VALID:
        return "shows a certificate that is not valid yet: is this machine's clock right?"
    if error.verify_code in (_WRONG_NAME, _WRONG_ADDRESS):
        return "shows a certificate that is not for that name: call the server by a name that its certificate has"
    if error.verify_code in _UNKNOWN:
        return (
            "shows a certificate that nobody has signed whom this machine trusts: name the file with it, or with its "
            f"authority's, in {authorities_variable} (`janflask serve --tls-self-signed` has it in its data folder, "
            f"{PUBLIC})"
        )
    return f"shows a certificate that is not trusted: {error.verify_message}"
