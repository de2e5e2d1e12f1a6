"""The pools of all upstream models of this process: one for each entry, made again when that changes."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from janflask.errors import ConflictError
from janflask.inference.upstream.backend import UpstreamBackend
from janflask.inference.upstream.pool import UpstreamPool
from janflask.models.card import ModelCard
from janflask.models.upstream import Upstream
from janflask.models.upstream_health import BaseUrlHealth
from janflask.settings import Settings


class UpstreamPools:
    """Thread-safe. Also an ``UpstreamHealth``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._backends: dict[str, tuple[ModelCard, UpstreamBackend]] = {}
        self._pools: dict[str, UpstreamPool] = {}

    def backend(self, card: ModelCard, upstream: Upstream) -> UpstreamBackend:
        """The same one for every request, as long as the entry stays as it is. Raises ConflictError."""
        with self._lock:
            known = self._backends.get(card.id)
            if known is not None and known[0] == card:
                return known[1]
            backend = UpstreamBackend(card, upstream, self._pool(card.id, upstream), self._settings)
            self._backends[card.id] = card, backend
            return backend

    def known(self, card: ModelCard) -> Sequence[BaseUrlHealth]:
        """See ``UpstreamHealth``."""
        if card.upstream is None:
            return ()
        try:
            with self._lock:
                pool = self._pool(card.id, card.upstream)
        except ConflictError as error:
            return [BaseUrlHealth(base_url=url, error=error.message) for url in card.upstream.base_urls]
        return pool.health()

    def ask(self, card: ModelCard) -> Sequence[BaseUrlHealth]:
        """See ``UpstreamHealth``."""
        if card.upstream is None:
            return ()
        with self._lock:
            pool = self._pool(card.id, card.upstream)
        return pool.check_all(card.upstream.connect_timeout)

    def _pool(self, model_id: str, upstream: Upstream) -> UpstreamPool:
        pool = self._pools.get(model_id)
        if pool is not None and pool.upstream == upstream:
            return pool
        made = UpstreamPool(model_id, upstream, self._settings)
        if pool is not None:
            pool.close()
        self._pools[model_id] = made
        return made
