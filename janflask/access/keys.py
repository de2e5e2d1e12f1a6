"""Keys: how one reads, what is kept of it, and how one that is sent is found among them.

``jf_<id>_<secret>``: the id is public, the secret 256 random bits. What is kept is the SHA-256 of the whole text:
nobody finds so much chance by trying, so that a slow hash would cost every request and defend against nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field

from janflask.access.scopes import Scopes

MARK = "jf"  # begins every key: who finds one somewhere knows what it is
ID_SIZE, SECRET_SIZE = 12, 43  # characters
ID_CHARACTERS = string.ascii_lowercase + "234567"  # 60 bits
SECRET_CHARACTERS = string.ascii_letters + string.digits  # 256 bits, and a double click selects all of it

_NOBODY = bytes(32)  # compared with where there is no such id: that must not be quicker


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may use; None: as much as it likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # of prompts and answers together
    streams: int | None = None  # answers under way at once


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key. ``digest`` is of its whole text, ``created`` seconds since the epoch."""

    id: str
    name: str
    digest: bytes = field(repr=False)
    scopes: Scopes
    created: int
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class Keyring:
    """All keys, by their ids. ``required``: nobody gets in without one, also if there is none."""

    required: bool = False
    keys: Mapping[str, Key] = field(default_factory=dict)

    def holder(self, text: str) -> Key | None:
        """The key that reads so. It takes as long for a wrong one, whatever is wrong with it."""
        key = self.keys.get(id_in(text))
        same = hmac.compare_digest(digest(text), _NOBODY if key is None else key.digest)
        return key if same else None

    def with_key(self, key: Key) -> Keyring:
        """With one more, and from now on required."""
        return Keyring(True, {**self.keys, key.id: key})

    def without(self, key_id: str) -> Keyring:
        """With one less; after the last one nobody gets in."""
        return Keyring(True, {each: key for each, key in self.keys.items() if each != key_id})


def new_key(name: str, scopes: Scopes, limits: Limits, now: int) -> tuple[Key, str]:
    """A new key and its text, which is not to be had again."""
    key_id = "".join(secrets.choice(ID_CHARACTERS) for _ in range(ID_SIZE))
    text = f"{MARK}_{key_id}_" + "".join(secrets.choice(SECRET_CHARACTERS) for _ in range(SECRET_SIZE))
    return Key(key_id, name, digest(text), scopes, now, limits), text


def id_in(text: str) -> str:
    """The id in a key's text; what is no such text is taken for an id."""
    return text[len(MARK) + 1 :][:ID_SIZE] if text.startswith(f"{MARK}_") else text


def is_key_id(text: str) -> bool:
    """Whether it may be a key's, there or revoked."""
    return len(text) == ID_SIZE and set(text) <= set(ID_CHARACTERS)


def digest(text: str) -> bytes:
    """What is kept of a key's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
