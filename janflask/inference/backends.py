"""Which backend answers for a model."""

from __future__ import annotations

from collections.abc import Callable

from janflask.inference.backend import Backend
from janflask.inference.layout.templates import ChatTemplates
from janflask.inference.local.backend import LocalBackend
from janflask.inference.local.engines import Engines
from janflask.inference.metered import MeteredBackend, Spend
from janflask.inference.quoted import QuotedBackend
from janflask.inference.traced import Record, TracedBackend
from janflask.inference.upstream.pools import UpstreamPools
from janflask.models.card import ModelCard
from janflask.settings import Settings


class Backends:
    """Every model's backend. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        card: Callable[[str], ModelCard],
        engines: Engines,
        upstreams: UpstreamPools,
        meter: Callable[[], Spend | None] = lambda: None,
        record: Record | None = None,
    ) -> None:
        """``card`` finds a model; it raises ModelNotFoundError, and ConflictError for one that is on its way.

        ``meter`` gives whoever counts the tokens of the work at hand, if anybody does; ``record`` is told where the
        time of each answer went.
        """
        self._record = record
        self._settings = settings
        self._card = card
        self._engines = engines
        self._templates = ChatTemplates()
        self._upstreams = upstreams
        self._meter = meter

    def of(self, model_id: str) -> Backend:
        """Raises ModelNotFoundError, and ConflictError for a model that is not on disk yet."""
        card = self._card(model_id)
        backend, spend = self._backend(card), self._meter()
        if spend is not None:
            backend = MeteredBackend(backend, spend)
        if self._settings.log_prompts:
            backend = QuotedBackend(backend, card.id)
        return backend if self._record is None else TracedBackend(backend, card.id, self._record)

    def _backend(self, card: ModelCard) -> Backend:
        if card.upstream is not None:
            return self._upstreams.backend(card, card.upstream)
        return LocalBackend(self._settings, card, self._engines, self._templates)
