"""One model as the API sees it: what is on disk joined with what the supervisor knows."""

from __future__ import annotations

from dataclasses import dataclass

from janflask.models.card import ModelCard
from janflask.models.engine_info import EngineStats
from janflask.models.state import ModelState, state_of
from janflask.models.upstream_health import BaseUrlHealth


@dataclass(frozen=True, slots=True)
class Model:
    """A model on disk, or on its way there, and what the supervisor knows of it."""

    card: ModelCard
    state: ModelState
    stats: EngineStats | None = None  # only of a single model, while it runs
    notes: tuple[str, ...] = ()  # of what was just done with it
    health: tuple[BaseUrlHealth, ...] = ()  # of each base URL, if an upstream runs it

    @property
    def error(self) -> str | None:
        """Why it failed, or can't be used as it is."""
        return self.state.error or self.card.problem


def joined(card: ModelCard, state: ModelState | None) -> Model:
    """A model on disk, which no upstream runs."""
    return Model(card, state_of(card, state))


def coming(state: ModelState) -> Model:
    """A model of which there is nothing on disk yet but, maybe, a part."""
    size, since = (state.download.total or 0, state.download.started_at) if state.download else (0, 0)
    card = ModelCard(
        id=state.model_id,
        name=state.model_id,
        path=None,
        size_bytes=size,
        created=since,
        settings={},
        parameters={},
        metadata={},
        raw={},
    )
    return Model(card, state)
