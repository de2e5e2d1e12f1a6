"""``secrets/keys.json``: all keys of a data folder, read again whenever it changes.

So a key holds in a running server as soon as it is added, and no longer than until it is revoked. Where the file is
wrong, or gone after it was there, nobody gets in: it never opens what it closed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from janflask.access.keys import ID_CHARACTERS, ID_SIZE, Key, Keyring, Limits
from janflask.access.scopes import Scope
from janflask.decoding import json_decoder
from janflask.errors import KeysUnreadableError
from janflask.files.secrets_file import SecretsFile

NAME = "keys.json"
VERSION = 1
MAX_NAME = 100  # characters
MAX_LIMIT = 10**9
_MAX_SIZE = 8 << 20  # bytes

_Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]


class _LimitsEntry(msgspec.Struct, forbid_unknown_fields=True):
    requests_per_minute: _Limit | None = None
    tokens_per_minute: _Limit | None = None
    streams: _Limit | None = None


class _KeyEntry(msgspec.Struct, forbid_unknown_fields=True):
    id: Annotated[str, Meta(pattern=f"^[{ID_CHARACTERS}]{{{ID_SIZE}}}\\Z")]
    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}\\Z")]
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    created: int
    limits: _LimitsEntry

    @classmethod
    def of(cls, key: Key) -> _KeyEntry:
        scopes = [scope for scope in Scope if scope in key.scopes]
        limits = _LimitsEntry(**asdict(key.limits))
        return cls(key.id, key.name, key.digest.hex(), scopes, key.created, limits)

    def key(self) -> Key:
        limits = Limits(self.limits.requests_per_minute, self.limits.tokens_per_minute, self.limits.streams)
        digest = bytes.fromhex(self.sha256)
        return Key(self.id, self.name, digest, frozenset(self.scopes), self.created, limits)


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    required: bool
    keys: list[_KeyEntry]


class KeyFile:
    """The keys of a data folder. Thread-safe; any number of processes read and change them."""

    def __init__(self, secrets_dir: Path, lock_timeout: float = 5.0) -> None:
        self.path = secrets_dir / NAME
        self._file = SecretsFile(
            self.path, _decoded, _encoded, self._unreadable, limit=_MAX_SIZE, lock_timeout=lock_timeout
        )
        self._asks = False  # for keys, so that the file must not be gone

    def current(self) -> Keyring:
        """The keys as they are now: one question to the file system if nothing has changed.

        Raises KeysUnreadableError, whose message is for the owner of the server.
        """
        try:
            found = self._file.current()
        except KeysUnreadableError:
            self._asks = True  # also while it cannot be read
            raise
        if found is None:
            return self._without_file()
        self._asks = found.required
        return found

    def change(self, changed: Callable[[Keyring], Keyring]) -> Keyring:
        """Writes what ``changed`` makes of the keys. Raises KeysUnreadableError, StoreBusyError, OSError."""
        return self._file.change(lambda keyring: changed(Keyring() if keyring is None else keyring))

    def _without_file(self) -> Keyring:
        if not self._asks:
            return Keyring()
        raise self._unreadable("it is gone; `janflask keys off` is the way to ask for no keys")

    def _unreadable(self, reason: str) -> KeysUnreadableError:
        return KeysUnreadableError(f"the keys in {self.path} cannot be used, so that nobody gets in: {reason}")


def _encoded(keyring: Keyring) -> bytes:
    content = _Content(VERSION, keyring.required, [_KeyEntry.of(key) for key in keyring.keys.values()])
    return msgspec.json.encode(content)


def _decoded(data: bytes) -> Keyring:
    """Raises ValueError, of which msgspec's errors are, too."""
    content = json_decoder(_Content).decode(data)
    if content.version != VERSION:
        raise ValueError(f"it is of version {content.version}, and this janflask knows {VERSION}")
    keys = {entry.id: entry.key() for entry in content.keys}
    if len(keys) != len(content.keys):
        raise ValueError("two keys have the same id")
    if keys and not content.required:
        raise ValueError("there are keys, and `required` is false")
    return Keyring(content.required, keys)
