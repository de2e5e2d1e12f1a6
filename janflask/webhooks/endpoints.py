"""``secrets/webhooks.json``: who is told of what, read again whenever it changes.

It holds secrets, so it is read only if it is its user's alone. Where it cannot be used nothing is sent, and nothing is
lost: every event is kept until it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from janflask.decoding import json_decoder
from janflask.errors import ConflictError, StoreDamagedError
from janflask.files.secrets_file import SecretsFile
from janflask.webhooks import events, signing

NAME = "webhooks.json"
VERSION = 1
ENDPOINT = "we_"
MAX_ENDPOINTS = 16
MAX_URL = 2048  # characters
_MAX_SIZE = 1 << 20  # bytes


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``until``: seconds since the epoch after which it signs no more."""

    text: str
    until: int | None = None


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who is told. ``events`` as in ``events.is_pattern``; the newest of ``secrets`` comes first.

    ``private``: it may be on this machine or in its network, and may be asked without TLS. ``disabled``: why it is told
    nothing.
    """

    id: Annotated[str, Meta(pattern=f"^{ENDPOINT}[0-9a-z]{{1,64}}\\Z")]
    url: Annotated[str, Meta(min_length=1, max_length=MAX_URL)]
    events: Annotated[list[str], Meta(min_length=1)]
    secrets: Annotated[list[Secret], Meta(min_length=1)]
    created: int
    private: bool = False
    disabled: str | None = None

    def wants(self, type: str) -> bool:
        """Whether it is told events of that type."""
        return self.disabled is None and any(events.matches(pattern, type) for pattern in self.events)

    def signing(self, now: float) -> list[str]:
        """The secrets that sign now."""
        return [secret.text for secret in self.secrets if secret.until is None or secret.until > now]


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    endpoints: list[Endpoint]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """All endpoints, by their ids."""

    known: Mapping[str, Endpoint] = field(default_factory=dict)

    def with_one(self, endpoint: Endpoint) -> Endpoints:
        """With one more, or with one that was changed."""
        return Endpoints({**self.known, endpoint.id: endpoint})

    def without(self, endpoint_id: str) -> Endpoints:
        """With one less."""
        return Endpoints({name: each for name, each in self.known.items() if name != endpoint_id})

    def want(self, type: str) -> bool:
        """Whether anybody is told events of that type."""
        return any(endpoint.wants(type) for endpoint in self.known.values())


class EndpointFile:
    """The endpoints of a data folder. Thread-safe; any number of processes read and change them."""

    def __init__(self, secrets_dir: Path, lock_timeout: float = 5.0) -> None:
        self.path = secrets_dir / NAME
        self._file = SecretsFile(
            self.path, _decoded, _encoded, self._unusable, limit=_MAX_SIZE, lock_timeout=lock_timeout
        )

    def current(self) -> Endpoints:
        """As they are now: one question to the file system if nothing has changed. Raises StoreDamagedError."""
        return self._file.current() or Endpoints()

    def wanted(self, told: Sequence[events.Event]) -> list[events.Event]:
        """Those of the events that somebody is told, as far as that is known."""
        try:
            endpoints = self.current()
        except StoreDamagedError:
            return list(told)  # they are kept until somebody can say
        return [event for event in told if endpoints.want(event.type)] if endpoints.known else []

    def change(self, changed: Callable[[Endpoints], Endpoints]) -> Endpoints:
        """Writes what ``changed`` makes of them. Raises StoreDamagedError, StoreBusyError, OSError, and its errors."""

        def checked(now: Endpoints | None) -> Endpoints:
            new = changed(now or Endpoints())
            if len(new.known) > MAX_ENDPOINTS:
                raise ConflictError(f"there are {MAX_ENDPOINTS} endpoints already: remove one first")
            return new

        return self._file.change(checked)

    def _unusable(self, reason: str) -> StoreDamagedError:
        return StoreDamagedError(f"the webhooks in {self.path} cannot be used, so that none is sent: {reason}")


def _encoded(endpoints: Endpoints) -> bytes:
    return msgspec.json.encode(_Content(VERSION, list(endpoints.known.values())))


def _decoded(data: bytes) -> Endpoints:
    """Raises ValueError, of which msgspec's errors are, too."""
    content = json_decoder(_Content).decode(data)
    if content.version != VERSION:
        raise ValueError(f"it is of version {content.version}, and this janflask knows {VERSION}")
    for endpoint in content.endpoints:
        _check(endpoint)
    known = {endpoint.id: endpoint for endpoint in content.endpoints}
    if len(known) != len(content.endpoints):
        raise ValueError("two endpoints have the same id")
    return Endpoints(known)


def _check(endpoint: Endpoint) -> None:
    """Raises ValueError."""
    if unknown := events.unknown(endpoint.events):
        raise ValueError(f"{endpoint.id} asks for {unknown[0][:100]!r}, and there are no such events")
    if endpoint.secrets[0].until is not None:
        raise ValueError(f"the first secret of {endpoint.id} would end: it is the one that stays")
    for secret in endpoint.secrets:
        signing.key_of(secret.text)
