"""Finding a model's engine, starting it if need be, and asking again while it is being replaced: the one policy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from janflask.errors import ConflictError, EngineCrashedError, TimeoutExceededError, UnavailableError
from janflask.inference.tries import Tries
from janflask.inference.waiting import Waiter
from janflask.ipc.clients.engine import engine_specials
from janflask.ipc.clients.supervisor import STATES_TIMEOUT, SupervisorClient
from janflask.ipc.messages.engine import Specials
from janflask.models.engine_info import EngineInfo
from janflask.models.state import ModelState, ModelStatus
from janflask.settings import Settings

START_MARGIN = 30.0  # seconds on top of start_timeout, for a process that has to be killed and reaped

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running engine: where it listens and what it said of itself."""

    socket: str
    info: EngineInfo


class Engines:
    """Starts engines and remembers where the running ones listen. Thread-safe."""

    def __init__(self, settings: Settings, supervisor: SupervisorClient) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._lock = threading.Lock()
        self._endpoints: dict[str, tuple[Endpoint, tuple[int, int]]] = {}
        self._specials: dict[str, tuple[Endpoint, Specials]] = {}

    def ask(self, model_id: str, waiter: Waiter, question: Callable[[Endpoint], T], tries: Tries | None = None) -> T:
        """What ``question`` answers; it is asked again when the engine was just being replaced.

        Raises what it raises, ConflictError, what the start of a model fails with, EngineCrashedError,
        TimeoutExceededError and ClientDisconnectedError.
        """
        tries, anew = tries or Tries(), False
        while True:
            try:
                return question(self.find(model_id, waiter, anew=anew))
            except EngineCrashedError as error:
                tries.again(error, waiter)
            anew = True

    def find(
        self, model_id: str, waiter: Waiter, *, anew: bool = False, overrides: Mapping[str, Any] | None = None
    ) -> Endpoint:
        """``finding`` for whoever has nothing to say meanwhile."""
        search = self.finding(model_id, waiter, self._settings.start_timeout, anew=anew, overrides=overrides)
        while True:
            try:
                next(search)
            except StopIteration as found:
                endpoint: Endpoint = found.value
                return endpoint

    def finding(
        self,
        model_id: str,
        waiter: Waiter,
        beat: float,
        *,
        anew: bool = False,
        overrides: Mapping[str, Any] | None = None,
    ) -> Generator[None, None, Endpoint]:
        """Returns where the engine listens; gives None once when it has to be started, and after each ``beat`` seconds.

        ``anew`` trusts nothing that is remembered of it. ``overrides`` are the settings of a start that is needed.
        Raises ConflictError when requests start no models here, what the start fails with, ClientDisconnectedError.
        """
        endpoint = None if anew else self._endpoint(model_id)
        if endpoint is not None:
            return endpoint
        self.forget(model_id)
        self._check_may_start(model_id)
        yield
        for state in self.starting(model_id, waiter, beat, overrides):
            endpoint = None if state is None else self._remember(state)
            if endpoint is not None:
                return endpoint
            yield
        raise UnavailableError(f"{model_id} started and is gone again; try once more", retry_after=1)

    def starting(
        self, model_id: str, waiter: Waiter, beat: float, overrides: Mapping[str, Any] | None = None
    ) -> Iterator[ModelState | None]:
        """Starts a model, or joins a start under way: None after each ``beat`` seconds, the running model at last.

        Raises what the start failed with, UnavailableError, ClientDisconnectedError (the start goes on without the
        client) and TimeoutExceededError.
        """
        deadline = time.monotonic() + self._settings.start_timeout + START_MARGIN
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

    def specials(self, endpoint: Endpoint) -> Specials:
        """The special tokens of an engine's model, which is asked once. Raises what asking it does."""
        model_id = endpoint.info.model_id
        with self._lock:
            known = self._specials.get(model_id)
        if known is None or known[0] is not endpoint:
            known = endpoint, engine_specials(endpoint.socket, self._settings.request_timeout)
            with self._lock:
                self._specials[model_id] = known
        return known[1]

    def forget(self, model_id: str) -> None:
        """Drops the remembered endpoint: the next request asks the supervisor."""
        with self._lock:
            self._endpoints.pop(model_id, None)

    def _endpoint(self, model_id: str) -> Endpoint | None:
        """The model's engine if it runs. Remembered until its socket is gone or another one."""
        with self._lock:
            known = self._endpoints.get(model_id)
        if known is not None and known[1] == _identity(known[0].socket):
            return known[0]
        state = self._state(model_id)
        return None if state is None else self._remember(state)

    def _remember(self, state: ModelState) -> Endpoint | None:
        """Where ``state``'s model listens, for the next request too; None when it doesn't run."""
        if state.status is not ModelStatus.RUNNING or state.socket is None or state.info is None:
            return None
        endpoint = Endpoint(state.socket, state.info)
        identity = _identity(state.socket)
        if identity is not None:
            with self._lock:
                self._endpoints[state.model_id] = (endpoint, identity)
        return endpoint

    def _check_may_start(self, model_id: str) -> None:
        """Raises ConflictError when requests don't start models here; waiting for a start under way is no start."""
        if self._settings.auto_start:
            return
        state = self._state(model_id)
        if state is None or state.status not in (ModelStatus.STARTING, ModelStatus.RUNNING):
            raise ConflictError(
                f"{model_id} is not running and automatic start is off: PUT /v1/models/{model_id}/start first",
                param="model",
                code="model_not_running",
            )

    def _state(self, model_id: str) -> ModelState | None:
        return self._supervisor.states(STATES_TIMEOUT).get(model_id)


def _identity(socket_path: str) -> tuple[int, int] | None:
    """Changes when another process listens at the same path: a restarted engine may run another file or settings."""
    try:
        found = Path(socket_path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns
