"""Models as the API sees them: what is on disk joined with what the supervisor runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from janflask.catalog import ModelCatalog, engine_settings
from janflask.errors import ConflictError, EngineCrashedError, InvalidRequestError, JanflaskError, TimeoutExceededError
from janflask.ipc.client import SupervisorClient, engine_stats
from janflask.services.waiting import Waiter
from janflask.settings import Settings
from janflask.types import EngineInfo, EngineStats, ModelCard, ModelState, ModelStatus

STATES_TIMEOUT = 5.0  # seconds; the supervisor answers from memory
STATS_TIMEOUT = 2.0  # seconds
STOP_MARGIN = 30.0  # seconds on top of stop_timeout, for a process that has to be killed and reaped


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Model:
    """A model on disk and what the supervisor knows of it."""

    card: ModelCard
    state: ModelState
    stats: EngineStats | None = None  # only of a single model, while it runs

    @property
    def error(self) -> str | None:
        """Why it failed, or can't be used as it is."""
        return self.state.error or self.card.problem


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running engine: where it listens and what it said of itself."""

    socket: str
    info: EngineInfo


class ModelService:
    """Lists, starts and stops models, and remembers where the running ones listen. Thread-safe."""

    def __init__(self, settings: Settings, catalog: ModelCatalog, supervisor: SupervisorClient) -> None:
        self._settings = settings
        self._catalog = catalog
        self._supervisor = supervisor
        self._lock = threading.Lock()
        self._endpoints: dict[str, tuple[Endpoint, tuple[int, int]]] = {}

    def card(self, model_id: str) -> ModelCard:
        """Raises ModelNotFoundError for an unknown id and for anything that is not an id."""
        return self._catalog.get(model_id)

    def list(self) -> list[Model]:
        """Every model, by id. Raises UnavailableError when the supervisor can't be asked."""
        states = self._supervisor.states(STATES_TIMEOUT)
        return [_joined(card, states) for card in self._catalog.list()]

    def get(self, name: str) -> Model:
        """By id or source URL; with its load, while it runs. Raises ModelNotFoundError, UnavailableError."""
        card = self._catalog.find(name)
        model = _joined(card, self._supervisor.states(STATES_TIMEOUT))
        if model.state.status is not ModelStatus.RUNNING or model.state.socket is None:
            return model
        try:
            return replace(model, stats=engine_stats(model.state.socket, STATS_TIMEOUT))
        except JanflaskError as error:  # it may end between the two questions; the rest is still worth an answer
            log.warning("no statistics of %s: %s", card.id, error.message)
            return model

    def start(self, name: str, overrides: Mapping[str, Any], waiter: Waiter) -> ModelState:
        """The running model, named by id or source URL. Raises ModelNotFoundError and what ``starting`` raises."""
        model_id = self._catalog.find(name).id
        _check_overrides(self._settings, overrides)
        for state in self.starting(model_id, waiter, beat=self._settings.start_timeout, overrides=overrides):
            if state is not None:
                return state
        raise EngineCrashedError(f"the start of {model_id} ended without a result", retry_after=1)

    def starting(
        self, model_id: str, waiter: Waiter, beat: float, overrides: Mapping[str, Any] | None = None
    ) -> Iterator[ModelState | None]:
        """Starts a model, or joins a start under way: None after each ``beat`` seconds, the running model at last.

        Raises what the start failed with, UnavailableError, ClientDisconnectedError (the start goes on without the
        client) and TimeoutExceededError.
        """
        deadline = time.monotonic() + self._settings.start_timeout + STOP_MARGIN
        with self._supervisor.start(model_id, dict(overrides or {})) as pending:
            waiter.watch(pending)
            try:
                while time.monotonic() < deadline:
                    state = pending.receive() if waiter.wait(beat) else None
                    yield state
                    if state is not None:
                        return
            finally:
                waiter.unwatch(pending)
        raise TimeoutExceededError(f"{model_id} did not start in {self._settings.start_timeout:g} s", retry_after=5)

    def stop(self, name: str) -> ModelState:
        """The stopped model, named by id or source URL; its requests under way have ended.

        Stopping a model that does not run is no error. Raises ModelNotFoundError, UnavailableError.
        """
        model_id = self._catalog.find(name).id
        self.forget(model_id)
        return self._supervisor.stop(model_id, self._settings.stop_timeout + STOP_MARGIN)

    def running(self) -> int:
        """How many models run. Raises UnavailableError when the supervisor can't be asked."""
        states = self._supervisor.states(STATES_TIMEOUT)
        return sum(state.status is ModelStatus.RUNNING for state in states.values())

    def endpoint(self, model_id: str) -> Endpoint | None:
        """The model's engine if it runs. Remembered until its socket is gone or another one."""
        with self._lock:
            known = self._endpoints.get(model_id)
        if known is not None and known[1] == _identity(known[0].socket):
            return known[0]
        state = self._supervisor.states(STATES_TIMEOUT).get(model_id)
        return None if state is None else self.remember(state)

    def remember(self, state: ModelState) -> Endpoint | None:
        """Where ``state``'s model listens, for the next request too; None when it doesn't run."""
        if state.status is not ModelStatus.RUNNING or state.socket is None or state.info is None:
            return None
        endpoint = Endpoint(state.socket, state.info)
        identity = _identity(state.socket)
        if identity is not None:
            with self._lock:
                self._endpoints[state.model_id] = (endpoint, identity)
        return endpoint

    def forget(self, model_id: str) -> None:
        """Drops the remembered endpoint: the next request asks the supervisor."""
        with self._lock:
            self._endpoints.pop(model_id, None)

    def may_start(self, model_id: str) -> None:
        """Raises ConflictError when requests don't start models here; waiting for a start under way is no start."""
        if self._settings.auto_start:
            return
        state = self._supervisor.states(STATES_TIMEOUT).get(model_id)
        if state is None or state.status not in (ModelStatus.STARTING, ModelStatus.RUNNING):
            raise ConflictError(
                f"{model_id} is not running and automatic start is off: PUT /v1/models/{model_id}/start first",
                param="model",
                code="model_not_running",
            )


def _check_overrides(settings: Settings, overrides: Mapping[str, Any]) -> None:
    """Refuses unknown names and bad values before anything is done."""
    try:
        engine_settings({}, settings, overrides)
    except InvalidRequestError as error:
        # The body of a start is the settings themselves.
        error.param = error.param and error.param.removeprefix("settings.")
        raise


def _identity(socket_path: str) -> tuple[int, int] | None:
    """Changes when another process listens at the same path: a restarted engine may run another file or settings."""
    try:
        found = Path(socket_path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


def _joined(card: ModelCard, states: Mapping[str, ModelState]) -> Model:
    state = states.get(card.id)
    if state is None:
        status = ModelStatus.NOT_DOWNLOADED if card.path is None else ModelStatus.DOWNLOADED
        state = ModelState(model_id=card.id, status=status)
    return Model(card, state)
