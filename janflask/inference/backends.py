"""Which backend answers for a model."""

from __future__ import annotations

from collections.abc import Callable

from janflask.inference.backend import Backend
from janflask.inference.layout.templates import ChatTemplates
from janflask.inference.local.backend import LocalBackend
from janflask.inference.local.engines import Engines
from janflask.inference.upstream.pools import UpstreamPools
from janflask.models.card import ModelCard
from janflask.settings import Settings


class Backends:
    """Every model's backend. Thread-safe."""

    def __init__(
        self, settings: Settings, card: Callable[[str], ModelCard], engines: Engines, upstreams: UpstreamPools
    ) -> None:
        """``card`` finds a model; it raises ModelNotFoundError, and ConflictError for one that is on its way."""
        self._settings = settings
        self._card = card
        self._engines = engines
        self._templates = ChatTemplates()
        self._upstreams = upstreams

    def of(self, model_id: str) -> Backend:
        """Raises ModelNotFoundError, and ConflictError for a model that is not on disk yet."""
        card = self._card(model_id)
        if card.upstream is not None:
            return self._upstreams.backend(card, card.upstream)
        return LocalBackend(self._settings, card, self._engines, self._templates)
