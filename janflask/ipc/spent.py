"""Where the time of one generation went, for who traces it. Nothing of what was asked or answered."""

from __future__ import annotations

from dataclasses import dataclass

from janflask.ipc.messages.generation import Timings, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Times are nanoseconds since the epoch."""

    operation: str  # in OpenTelemetry's words: chat, text_completion
    model_id: str
    began: int
    ended: int
    usage: Usage | None  # None: it has no end of its own
    timings: Timings | None
    reasons: tuple[str, ...]  # why its choices ended
    error: str | None  # the error's code, or the name of its class, if it failed
