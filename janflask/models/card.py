"""What ``model.json`` says of a model on disk, as the catalog reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from janflask.models.parameters import Parameters, read_parameters
from janflask.models.upstream import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model on disk: ``models/<id>/model.json`` read leniently, with what Jan or a user wrote kept in ``raw``."""

    id: str
    name: str
    folder: str = ""  # below models/: Jan's id for it, which may be no legal one of ours; empty while there is none
    path: str | None  # the GGUF; None while there is none
    upstream: Upstream | None = None  # where it runs, if that is elsewhere: it has no GGUF then
    size_bytes: int
    created: int  # seconds since the epoch
    settings: dict[str, Any]
    parameters: dict[str, Any]
    metadata: dict[str, Any]
    raw: dict[str, Any]
    problem: str | None = None  # why it can't be used as it is
    understood: Parameters = field(init=False, repr=False, compare=False)  # ``parameters``, read once for all requests

    def __post_init__(self) -> None:
        object.__setattr__(self, "understood", read_parameters(self.parameters))  # it is frozen to others

    @property
    def present(self) -> bool:
        """Whether there is something to ask: its weights are here, or an upstream has them."""
        return self.path is not None or self.upstream is not None
