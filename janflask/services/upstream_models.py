"""What the API says and does of models that an upstream runs: nothing is started or stopped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from janflask.errors import ConflictError, UnavailableError
from janflask.models.card import ModelCard
from janflask.models.engine_settings import JAN_SETTINGS
from janflask.models.state import ModelState, ModelStatus
from janflask.models.upstream_health import BaseUrlHealth, UpstreamHealth
from janflask.services.model import Model
from janflask.services.overrides import refuse_settings


class UpstreamModels:
    """Cards here are of models with an upstream. Thread-safe."""

    def __init__(self, health: UpstreamHealth) -> None:
        self._health = health

    def model(self, card: ModelCard) -> Model:
        """The model as far as is known; nobody is asked."""
        health = self._health.known(card)
        return Model(card, _state(card.id, health), health=tuple(health))

    def start(self, card: ModelCard, overrides: Mapping[str, Any]) -> ModelState:
        """The running model, if one of its servers can be reached.

        Raises InvalidRequestError for a setting of an engine (what Jan sends beside these is left alone), ConflictError
        for a key that cannot be read, and UnavailableError.
        """
        refuse_settings(card.id, {name: value for name, value in overrides.items() if name not in JAN_SETTINGS}, "")
        state = _state(card.id, self._health.ask(card))
        if state.status is not ModelStatus.RUNNING:
            reason = state.error or "nobody has asked its servers yet"
            raise UnavailableError(f"{card.id} cannot be reached: {reason}", retry_after=5)
        return state

    @staticmethod
    def not_stopped(card: ModelCard) -> ConflictError:
        """Why it is not stopped: to say that it was would not be true."""
        where = "" if card.upstream is None else f" ({', '.join(card.upstream.base_urls)})"
        return ConflictError(
            f"{card.id} is run by another server{where}: it cannot be stopped from here",
            param="model_id",
            code="model_upstream",
        )


def _state(model_id: str, health: Sequence[BaseUrlHealth]) -> ModelState:
    """Running while one of its servers can be reached, failed while none can; else nobody has asked them yet."""
    if any(server.reachable for server in health):
        return ModelState(model_id=model_id, status=ModelStatus.RUNNING)
    if not health or any(server.reachable is None and server.error is None for server in health):
        return ModelState(model_id=model_id, status=ModelStatus.DOWNLOADED)
    reasons = dict.fromkeys(_reason(server) for server in health)  # what is wrong with the entry is wrong with each
    return ModelState(model_id=model_id, status=ModelStatus.FAILED, error="; ".join(reasons))


def _reason(server: BaseUrlHealth) -> str:
    told = server.error or "not reachable"
    return told if server.reachable is None or server.base_url in told else f"{server.base_url}: {told}"
