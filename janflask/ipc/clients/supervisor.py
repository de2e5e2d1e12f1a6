"""Asking the supervisor."""

from __future__ import annotations

from typing import Any

from janflask.ipc.channel import ProcessClient, Waitable, expected_reply, unreachable, wait_readable
from janflask.ipc.messages.supervisor import (
    Awaited,
    AwaitedModels,
    Budget,
    CancelDownload,
    GetAwaited,
    GetBudget,
    GetStates,
    StartDownload,
    StartModel,
    State,
    States,
    StopModel,
    WatchModel,
)
from janflask.ipc.sockets import SUPERVISOR_SOCKET
from janflask.models.state import DownloadRequest, ModelState

STATES_TIMEOUT = 5.0  # seconds; the supervisor answers from memory


class PendingStart(Waitable):
    """A start that was asked for; ``fileno()`` becomes readable when the supervisor answers.

    Closing it gives up waiting for the start, not the start itself.
    """

    def wait(self, timeout: float) -> bool:
        """True when ``receive`` has something to do, False after ``timeout`` seconds."""
        return wait_readable(self.fileno(), timeout)

    def receive(self) -> ModelState | None:
        """The running model, or None while the answer is not whole.

        Raises what the start failed with (ModelLoadError's kin, ModelNotFoundError's, ...) and UnavailableError when
        the supervisor is gone.
        """
        try:
            self._connection.receive()
        except EOFError as error:
            raise unreachable("the supervisor", error) from error
        message = self._connection.next()
        return None if message is None else expected_reply(message, State).state


class Watch(Waitable):
    """A model that is watched; ``fileno()`` becomes readable when there is something new."""

    def receive(self) -> list[ModelState] | None:
        """The states that came; empty while one is not whole, None once nothing more will come.

        Raises what the supervisor answers.
        """
        try:
            self._connection.receive()
        except EOFError:
            return None
        states: list[ModelState] = []
        while (message := self._connection.next()) is not None:
            states.append(expected_reply(message, State).state)
        return states


class SupervisorClient(ProcessClient):
    """Asks the supervisor whose socket is in ``runtime_dir``."""

    _SOCKET = SUPERVISOR_SOCKET
    _PEER = "the supervisor"

    def start(self, model_id: str, settings: dict[str, Any]) -> PendingStart:
        """Asks for a start and returns at once. ``settings`` override the model's own for this run."""
        return PendingStart(self._connect(StartModel(model_id, settings)))

    def start_and_wait(self, model_id: str, settings: dict[str, Any], timeout: float) -> ModelState:
        """The model once it runs. Raises what the start fails with; TimeoutExceededError leaves the start going on."""
        return self._ask(StartModel(model_id, settings), State, timeout).state

    def stop(self, model_id: str, timeout: float) -> ModelState:
        """The model once its process is gone. Stopping a model that does not run is no error."""
        return self._ask(StopModel(model_id), State, timeout).state

    def states(self, timeout: float) -> dict[str, ModelState]:
        """The models that the supervisor knows something of, by id."""
        return {state.model_id: state for state in self.told(timeout).states}

    def told(self, timeout: float) -> States:
        """The same, as it comes, with what the supervisor tells of itself."""
        return self._ask(GetStates(), States, timeout)

    def budget(self, timeout: float) -> Budget:
        """What memory there is for models."""
        return self._ask(GetBudget(), Budget, timeout)

    def awaited(self, timeout: float) -> list[Awaited]:
        """The models that have to run before the server is ready, and do not."""
        return self._ask(GetAwaited(), AwaitedModels, timeout).models

    def download(self, request: DownloadRequest, timeout: float) -> ModelState:
        """The model whose download has begun, or was under way. Raises what is wrong with the request."""
        return self._ask(StartDownload(request), State, timeout).state

    def cancel_download(self, model_id: str, timeout: float) -> ModelState:
        """The model without its download; nothing of it is left on the disk."""
        return self._ask(CancelDownload(model_id), State, timeout).state

    def watch(self, model_id: str) -> Watch:
        """How the model is, now and at each change until nothing is under way with it."""
        return Watch(self._connect(WatchModel(model_id)))
