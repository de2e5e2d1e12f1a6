"""Signatures by Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over id, time and body."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
SIZE = 32  # bytes
SMALLEST, LARGEST = 24, 64  # bytes, by the standard


def new_secret() -> str:
    """A secret as it is shown and kept."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SIZE)).decode()


def key_of(secret: str) -> bytes:
    """The bytes that sign. Raises ValueError for what is no secret."""
    if not secret.startswith(PREFIX):
        raise ValueError(f"a secret begins with {PREFIX}")
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        raise ValueError(f"behind {PREFIX} a secret is base64") from None
    if not SMALLEST <= len(key) <= LARGEST:
        raise ValueError(f"a secret has {SMALLEST} to {LARGEST} bytes, this one {len(key)}")
    return key


def headers(secrets_: Sequence[str], event_id: str, at: int, body: bytes) -> dict[str, str]:
    """What is sent along. ``at``: seconds since the epoch. With each of the secrets there is a signature."""
    signed = f"{event_id}.{at}.".encode() + body
    digests = (hmac.new(key_of(secret), signed, hashlib.sha256).digest() for secret in secrets_)
    signatures = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
    return {"webhook-id": event_id, "webhook-timestamp": str(at), "webhook-signature": signatures}
