"""What the supervisor is asked and answers."""

from __future__ import annotations

from typing import Any

import msgspec

from janflask.ipc.frames import Message
from janflask.models.state import DownloadRequest, ModelState


class StartModel(Message, frozen=True):
    """Start a model, or join a start under way, or answer at once when it runs. ``settings`` win over the model's."""

    model_id: str
    settings: dict[str, Any] = msgspec.field(default_factory=dict)


class StopModel(Message, frozen=True):
    model_id: str


class GetStates(Message, frozen=True):
    pass


class GetBudget(Message, frozen=True):
    pass


class Budget(Message, frozen=True):
    """What memory there is for models; bytes of RAM and of the GPUs' together."""

    budget_bytes: int  # that they may be promised
    total_bytes: int  # of the machine, or of the control group that the server is in


class StartDownload(Message, frozen=True):
    """Fetch a model, or join the download of the same source; answered at once."""

    request: DownloadRequest


class CancelDownload(Message, frozen=True):
    """End a download and remove what came of it. No error when there is none."""

    model_id: str


class WatchModel(Message, frozen=True):
    """Tell how a model is now, and at each change, until nothing is under way with it."""

    model_id: str


class State(Message, frozen=True):
    state: ModelState


class States(Message, frozen=True):
    """The models that the supervisor knows something of; a model on disk that was never started is not among them."""

    states: list[ModelState]
    pid: int = 0  # the supervisor's own


class GetAwaited(Message, frozen=True):
    """Which models have to run before the server is ready, and do not."""


class Awaited(msgspec.Struct, frozen=True):
    model_id: str
    status: str  # a ModelStatus, or ``unknown``
    reason: str | None = None


class AwaitedModels(Message, frozen=True):
    models: list[Awaited]
