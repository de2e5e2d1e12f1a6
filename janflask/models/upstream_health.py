"""How the servers of an upstream are, as far as this process knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from janflask.models.card import ModelCard
from janflask.models.upstream import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseUrlHealth:
    """One base URL of an upstream."""

    base_url: str
    reachable: bool | None = None  # None: nobody has asked it yet
    since: float | None = None  # that it is so; seconds since the epoch
    error: str | None = None  # the last failure, of one that is not reachable; never with a key in it
    under_way: int = 0  # requests of this server there
    next_try: float | None = None  # seconds until it is asked again, if it is left out


class UpstreamHealth(Protocol):
    """Who knows how upstreams are. Thread-safe."""

    def known(self, card: ModelCard) -> Sequence[BaseUrlHealth]:
        """What is known of each base URL of ``card.upstream``, in their order. Asks nobody, raises nothing."""
        ...

    def ask(self, card: ModelCard) -> Sequence[BaseUrlHealth]:
        """The same, once each base URL that is not known to be reachable was asked, all at once.

        Takes ``connect_timeout`` or little more. Raises ConflictError for a key that cannot be read.
        """
        ...


def upstream_object(upstream: Upstream, health: Sequence[BaseUrlHealth]) -> dict[str, Any]:
    """What clients see of an upstream: nothing of its key, not even where that is."""
    return {
        "kind": str(upstream.kind),
        "model": upstream.model,
        "ctx_len": upstream.ctx_len,
        "max_concurrent": upstream.max_concurrent,
        "servers": [asdict(server) for server in health],
    }


class NobodyAsked:
    """An ``UpstreamHealth`` that knows nothing: for the command line, which sends no requests of its own."""

    def known(self, card: ModelCard) -> Sequence[BaseUrlHealth]:
        """Each base URL, none of them asked."""
        return () if card.upstream is None else [BaseUrlHealth(base_url=url) for url in card.upstream.base_urls]

    ask = known
