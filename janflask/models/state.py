"""How a model is: on disk, on its way there, running; and what asks for it to be fetched."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from janflask.models.engine_info import EngineInfo

if TYPE_CHECKING:
    from janflask.models.card import ModelCard


class ModelStatus(StrEnum):
    """The whole state machine of a model; see ``docs/architecture.md``."""

    NOT_DOWNLOADED = "not_downloaded"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRequest:
    """A model to be fetched. ``source`` is an http(s) URL, ``hf:org/repo/file.gguf`` or ``hf:org/repo:Q4_K_M``.

    Everything was checked by who made it, but for the source itself.
    """

    source: str
    model_id: str | None = None  # None: from the source's own name
    name: str | None = None
    sha256: str | None = None  # of the (first) file, in hex
    settings: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadState:
    """How far a model's download is, over all its files."""

    source: str
    stage: str  # queued, resolving, downloading, verifying, failed
    transferred: int = 0  # bytes on this machine
    total: int | None = None  # bytes; None while nobody knows
    bytes_per_second: float = 0.0
    eta_seconds: float | None = None
    error: str | None = None
    started_at: int = 0  # when it was asked for, in seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """A model as the supervisor sees it."""

    model_id: str
    status: ModelStatus
    error: str | None = None
    socket: str | None = None  # where its engine listens, while it runs
    pid: int | None = None
    started_at: int | None = None  # seconds since the epoch
    restarts: int = 0  # after crashes, since the model was last started on request
    notes: tuple[str, ...] = ()  # what a user should know, e.g. "runs without repacked weights: ..."
    info: EngineInfo | None = None
    memory_bytes: int | None = None  # what it was promised of the memory budget, while it has an engine
    used_bytes: int | None = field(default=None, compare=False)  # of it, what is in RAM now: changes all the time
    download: DownloadState | None = None  # while there is one, and after it failed


def state_of(card: ModelCard, told: ModelState | None = None) -> ModelState:
    """How a model on disk is, which no upstream runs; ``told``: by the supervisor, if it has one."""
    # The supervisor knows what it did with a model, the catalog whether there are weights.
    if told is not None and told.status is not ModelStatus.NOT_DOWNLOADED:
        return told
    status = ModelStatus.DOWNLOADED if card.present else ModelStatus.NOT_DOWNLOADED
    return ModelState(model_id=card.id, status=status) if told is None else replace(told, status=status)
