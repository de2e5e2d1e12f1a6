"""Models as the API sees them: what is on disk joined with what the supervisor runs."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from janflask.errors import (
    ConflictError,
    EngineCrashedError,
    JanflaskError,
    ModelNotFoundError,
    UnavailableError,
)
from janflask.inference.local.engines import Engines
from janflask.inference.waiting import Waiter
from janflask.ipc import shutdown
from janflask.ipc.clients.engine import engine_stats
from janflask.ipc.clients.supervisor import STATES_TIMEOUT, SupervisorClient
from janflask.models.card import ModelCard
from janflask.models.catalog import ModelCatalog, is_model_id
from janflask.models.state import ModelState, ModelStatus
from janflask.models.upstream_health import UpstreamHealth
from janflask.services.downloads import DownloadService
from janflask.services.model import Model, coming, joined
from janflask.services.model_changes import ALIVE, ModelChanges, ModelChangeService, check_idle
from janflask.services.overrides import check_file, checked_settings
from janflask.services.upstream_models import UpstreamModels
from janflask.settings import Settings

STATS_TIMEOUT = 2.0  # seconds
STOP_MARGIN = 30.0  # seconds on top of stop_timeout, for a process that has to be killed and reaped
UNSETTLED = frozenset({ModelStatus.DOWNLOADING, ModelStatus.STARTING, ModelStatus.STOPPING})
NOT_YET = "the model runs with the settings it was started with: these hold from its next start"

log = logging.getLogger(__name__)


class ModelService:
    """Lists, starts, stops, changes and deletes models. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        catalog: ModelCatalog,
        supervisor: SupervisorClient,
        downloads: DownloadService,
        engines: Engines,
        upstreams: UpstreamHealth,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._supervisor = supervisor
        self._downloads = downloads
        self._upstreams = UpstreamModels(upstreams)
        self._changes = ModelChangeService(settings, catalog)
        self._engines = engines

    def card(self, model_id: str) -> ModelCard:
        """By id, or by the folder's name, which is Jan's id.

        Raises ModelNotFoundError for what is neither, and ConflictError for a model that is not on disk yet.
        """
        return self._on_disk(model_id, param="model") if is_model_id(model_id) else self._catalog.get(model_id)

    def usable(self) -> Sequence[str]:
        """The ids of the models on disk, or of an upstream, that make text."""
        cards = self._catalog.list()
        return [card.id for card in cards if card.present and not card.metadata.get("embedding")]

    def list(self) -> list[Model]:
        """Every model, by id: those on disk, and those whose download is under way or failed.

        Raises UnavailableError when the supervisor can't be asked.
        """
        states = self._states()  # first: a download that ends meanwhile is on disk then
        models = [self._joined(card, states) for card in self._catalog.list()]
        there = {model.card.id for model in models}
        new = [coming(state) for state in states.values() if state.download and state.model_id not in there]
        return sorted([*models, *new], key=lambda model: model.card.id) if new else models

    def get(self, name: str) -> Model:
        """By id or source URL; with its load, while it runs. Raises ModelNotFoundError, UnavailableError."""
        model = self._find(name, self._states())
        if model.state.status is not ModelStatus.RUNNING or model.state.socket is None:
            return model
        try:
            return replace(model, stats=engine_stats(model.state.socket, STATS_TIMEOUT))
        except JanflaskError as error:  # it may end between the two questions; the rest is still worth an answer
            log.warning("no statistics of %s: %s", model.card.id, error.message)
            return model

    def watching(self, name: str, waiter: Waiter, beat: float) -> Generator[Model | None, None, None]:
        """The model now and at each change until nothing is under way with it; None after ``beat`` seconds without one.

        Raises ModelNotFoundError (also once it is deleted), ClientDisconnectedError, and UnavailableError, also when
        the server is stopped: that does not wait for something that may take hours.
        """
        model_id = name if is_model_id(name) else self._find(name, self._states()).card.id
        settled = False
        with self._supervisor.watch(model_id) as watch:
            waiter.watch(watch)
            waiter.watch(shutdown.THIS_PROCESS)
            try:
                while (states := watch.receive() if self._wait(waiter, beat) else []) is not None:
                    # Several came while the client took none: the last one says it all.
                    model = self._of_state(states[-1]) if states else None
                    settled = settled if model is None else model.state.status not in UNSETTLED
                    yield model
            finally:
                waiter.unwatch(shutdown.THIS_PROCESS)
                waiter.unwatch(watch)
        if not settled:
            raise UnavailableError(f"the supervisor ended while {model_id} was watched; ask again", retry_after=1)

    @staticmethod
    def _wait(waiter: Waiter, beat: float) -> bool:
        """Whether there is news."""
        ready = waiter.wait(beat)
        if shutdown.THIS_PROCESS.begun:
            raise UnavailableError("the server is shutting down; ask again when it is back", retry_after=1)
        return bool(ready)

    def modify(self, name: str, changes: ModelChanges) -> Model:
        """The changed model, named by id or source URL; with a note if the change does not hold yet.

        Raises what ``ModelChangeService.modify`` does, ConflictError for a model that is not on disk yet, and
        UnavailableError.
        """
        states = self._states()  # first, so that nothing is changed when they can't be had
        card = self._changes.modify(self._on_disk(name, states).id, changes)
        model = self._joined(card, states)
        if card.upstream is not None:
            return model
        return replace(model, notes=(NOT_YET,)) if changes.settings and model.state.status in ALIVE else model

    def delete(self, name: str) -> str:
        """The id of the model, named by id or source URL, that is gone with its download and what was measured of it.

        Raises ModelNotFoundError, ConflictError for a model that runs, starts or stops, and UnavailableError.
        """
        states = self._states()
        model = self._find(name, states)
        model_id = model.card.id
        check_idle(model_id, lambda _: states[model_id].status if model_id in states else None)
        self._downloads.cancel(model_id)
        try:
            self._changes.delete(model_id, self._status)
        except ModelNotFoundError:
            if model.state.download is None:
                raise
        self._engines.forget(model_id)
        try:
            (self._settings.cache_dir / "tuning" / f"{model_id}.json").unlink(missing_ok=True)
        except OSError as error:
            log.warning("what was measured of %s is still there: %s", model_id, error)
        return model_id

    def start(self, name: str, overrides: Mapping[str, Any], waiter: Waiter) -> ModelState:
        """The running model, named by id or source URL. One of an upstream runs when that can be reached.

        Raises ModelNotFoundError, InvalidRequestError with ``param`` ``settings.<name>`` less ``settings.``,
        ConflictError for a model that is not on disk yet, and what ``Engines.starting`` raises.
        """
        card = self._on_disk(name)
        model_id = card.id
        self._check_overrides(card, overrides)
        if card.upstream is not None:
            return self._upstreams.start(card, overrides)
        for state in self._engines.starting(model_id, waiter, beat=self._settings.start_timeout, overrides=overrides):
            if state is not None:
                return state
        raise EngineCrashedError(f"the start of {model_id} ended without a result", retry_after=1)

    def stop(self, name: str) -> ModelState:
        """The stopped model, named by id or source URL; its requests under way have ended.

        Stopping a model that does not run is no error. Raises ModelNotFoundError, ConflictError for a model that is not
        on disk yet or that an upstream runs, UnavailableError.
        """
        card = self._on_disk(name)
        model_id = card.id
        if card.upstream is not None and self._status(model_id) not in ALIVE:  # it may have been a local one till now
            raise self._upstreams.not_stopped(card)
        self._engines.forget(model_id)
        return self._supervisor.stop(model_id, self._settings.stop_timeout + STOP_MARGIN)

    def running(self) -> int:
        """How many models run. Raises UnavailableError when the supervisor can't be asked."""
        return sum(state.status is ModelStatus.RUNNING for state in self._states().values())

    def _states(self) -> dict[str, ModelState]:
        return self._supervisor.states(STATES_TIMEOUT)

    def _status(self, model_id: str) -> ModelStatus | None:
        state = self._states().get(model_id)
        return None if state is None else state.status

    def _find(self, name: str, states: Mapping[str, ModelState]) -> Model:
        """A model on disk or on its way there, by id or source URL. Raises ModelNotFoundError."""
        try:
            card = self._catalog.find(name)
        except ModelNotFoundError:
            for state in states.values():
                if state.download is not None and name in (state.model_id, state.download.source):
                    return coming(state)
            raise
        return self._joined(card, states)

    def _joined(self, card: ModelCard, states: Mapping[str, ModelState]) -> Model:
        return joined(card, states.get(card.id)) if card.upstream is None else self._upstreams.model(card)

    def _of_state(self, state: ModelState) -> Model:
        """Raises ModelNotFoundError for a model that was deleted; the supervisor still knows it."""
        try:
            return self._joined(self._catalog.get(state.model_id), {state.model_id: state})
        except ModelNotFoundError:
            if state.download is None:
                raise
            return coming(state)

    def _on_disk(self, name: str, states: Mapping[str, ModelState] | None = None, param: str = "model_id") -> ModelCard:
        """By id or source URL. Raises ModelNotFoundError, and ConflictError for one that is on its way."""
        try:
            return self._catalog.find(name)
        except ModelNotFoundError:
            model = self._find(name, self._states() if states is None else states)
        reason = f"is being downloaded: GET /v1/models/{model.card.id} tells how far it is"
        if model.state.status is not ModelStatus.DOWNLOADING:
            reason = f"could not be downloaded ({model.error}): POST /v1/models tries again"
        raise ConflictError(f"{model.card.id} {reason}", param=param, code="model_not_downloaded")

    def _check_overrides(self, card: ModelCard, overrides: Mapping[str, Any]) -> None:
        """Refuses unknown names, bad values and an adapter that is not there before anything is done."""
        # Jan sends a model's own settings back, and the owner may have put a path into them.
        own = overrides.get("lora") == card.settings.get("lora")
        given = {name: value for name, value in overrides.items() if not (own and name == "lora")}
        checked = checked_settings(self._settings, given, where="")
        if checked.get("lora"):
            check_file("lora", checked["lora"], self._settings.models_dir / card.folder, where="")
