"""What the supervisor is asked and answers."""

from __future__ import annotations

from typing import Any

import msgspec

from janflask.models.state import DownloadRequest, ModelState

SUPERVISOR_SOCKET = "supervisor.sock"  # its name in the runtime folder


class StartModel(msgspec.Struct, frozen=True):
    """Start a model, or join a start under way, or answer at once when it runs. ``settings`` win over the model's."""

    model_id: str
    settings: dict[str, Any] = {}


class StopModel(msgspec.Struct, frozen=True):
    model_id: str


class GetStates(msgspec.Struct, frozen=True):
    pass


class StartDownload(msgspec.Struct, frozen=True):
    """Fetch a model, or join the download of the same source; answered at once."""

    request: DownloadRequest


class CancelDownload(msgspec.Struct, frozen=True):
    """End a download and remove what came of it. No error when there is none."""

    model_id: str


class WatchModel(msgspec.Struct, frozen=True):
    """Tell how a model is now, and at each change, until nothing is under way with it."""

    model_id: str


class State(msgspec.Struct, frozen=True):
    state: ModelState


class States(msgspec.Struct, frozen=True):
    """The models that the supervisor knows something of; a model on disk that was never started is not among them."""

    states: list[ModelState]
