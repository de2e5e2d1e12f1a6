"""Texts that leave the server and come back unchanged or not at all: sealed, or signed.

A seal carries the text itself: ``jf1.`` and, in base64url, the HMAC (SHA-256) and the text, compressed by zlib. It is
not encrypted: the text is of the client's own conversation. A signature is the HMAC alone. Both cover what kind of text
it is, so that none is taken for another, and are made under a secret of the data folder (``secrets/seals``) that
outlives the cache.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import threading
import zlib
from pathlib import Path

from janflask.errors import InvalidEncryptedContentError, RequestTooLargeError
from janflask.files.secret_key import secret_key

NAME = "seals"  # the secret's file
PREFIX = "jf1."  # the version
MAX_TEXT = 16 << 20  # bytes of UTF-8 that can be sealed
MAX_SEALED = 4 * (MAX_TEXT + (1 << 16)) // 3  # characters; zlib makes of what it cannot pack hardly more

_MAC = hashlib.sha256().digest_size  # bytes
_WHOLE = "surrogatepass"  # every string of JSON, half characters as well


class Seals:
    """Seals under the secret in ``folder``, which is made when it is first needed. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._key: bytes | None = None
        self._lock = threading.Lock()

    def sealed(self, kind: str, text: str) -> str:
        """``text``, to be given back by ``opened`` for the same ``kind`` alone.

        Raises RequestTooLargeError above ``MAX_TEXT``, OSError without a secret.
        """
        data = text.encode(errors=_WHOLE)
        if len(data) > MAX_TEXT:
            raise RequestTooLargeError(f"a text of {len(data)} bytes is too long to be sealed: {MAX_TEXT} at most")
        packed = zlib.compress(data)
        return PREFIX + _encoded(self._mac("sealed", kind, packed) + packed)

    def opened(self, kind: str, sealed: str, *, param: str | None = None) -> str:
        """The text in ``sealed``. Raises InvalidEncryptedContentError, OSError without a secret.

        Only what was made here is unpacked: it cannot be larger than ``MAX_TEXT``.
        """
        data = _decoded(sealed) if len(sealed) <= MAX_SEALED else b""
        mac, packed = data[:_MAC], data[_MAC:]
        if not hmac.compare_digest(mac, self._mac("sealed", kind, packed)):
            raise InvalidEncryptedContentError(
                f"this is no {kind} that this server sealed, or it was changed: send it back just as it came, to the "
                "server (the data folder) that it came from",
                param=param,
            )
        return zlib.decompress(packed).decode(errors=_WHOLE)

    def signature(self, kind: str, text: str) -> str:
        """Shows later that ``text`` is from here. Raises OSError without a secret."""
        return PREFIX + _encoded(self._mac("signed", kind, text.encode(errors=_WHOLE)))

    def is_signed(self, kind: str, text: str, signature: str) -> bool:
        """Whether ``signature`` is ours of this ``text`` as this ``kind``. Raises OSError without a secret."""
        ours = self.signature(kind, text)
        return hmac.compare_digest(ours.encode(), signature.encode(errors=_WHOLE))

    def _mac(self, way: str, kind: str, data: bytes) -> bytes:
        mac = hmac.new(self._secret(), f"{way}\0{kind}\0".encode(), hashlib.sha256)
        mac.update(data)
        return mac.digest()

    def _secret(self) -> bytes:
        with self._lock:
            if self._key is None:
                self._key = secret_key(
                    self._path,
                    use="the secret of seals and signatures",
                    loss="what clients keep under the old one is refused",
                )
            return self._key


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(sealed: str) -> bytes:
    """What ``_encoded`` made a seal's rest of; nothing if it is written in any other way."""
    text = sealed.removeprefix(PREFIX)
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error):
        return b""
    return data if PREFIX + _encoded(data) == sealed else b""
