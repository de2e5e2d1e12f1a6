"""One model as the API sees it: what is on disk joined with what the supervisor knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from janflask.models.card import ModelCard
from janflask.models.engine_info import EngineStats
from janflask.models.state import ModelState, ModelStatus
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


def joined(card: ModelCard, state: ModelState | None, health: Sequence[BaseUrlHealth] = ()) -> Model:
    """A model on disk; ``health`` is that of its upstream, if one runs it."""
    if card.upstream is not None:
        return Model(card, upstream_state(card.id, health), health=tuple(health))
    # The supervisor knows what it did with a model, the catalog whether there are weights.
    if state is None or state.status is ModelStatus.NOT_DOWNLOADED:
        status = ModelStatus.DOWNLOADED if card.present else ModelStatus.NOT_DOWNLOADED
        state = ModelState(model_id=card.id, status=status) if state is None else replace(state, status=status)
    return Model(card, state)


def upstream_state(model_id: str, health: Sequence[BaseUrlHealth]) -> ModelState:
    """Running while one of its servers can be reached, failed while none can; else nobody has asked them yet."""
    if any(server.reachable for server in health):
        return ModelState(model_id=model_id, status=ModelStatus.RUNNING)
    if not health or any(server.reachable is None for server in health):
        return ModelState(model_id=model_id, status=ModelStatus.DOWNLOADED)
    reasons = "; ".join(f"{server.base_url}: {server.error or 'not reachable'}" for server in health)
    return ModelState(model_id=model_id, status=ModelStatus.FAILED, error=reasons)


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
