"""What a model says, as a run's log holds it."""

from __future__ import annotations

from collections.abc import Iterable

from janflask.files import ids
from janflask.inference.deltas import Event, ReasoningDelta, TextDelta, ToolCallDelta
from janflask.inference.logprobs import logprob_entries
from janflask.storage.rounds import Call
from janflask.storage.run_log import LogEvent, ReasoningEvent, TextEvent


def log_event(event: Event) -> LogEvent | None:
    """None for what is no delta of words, and for one that says nothing. A run has one choice."""
    if isinstance(event, TextDelta):
        return TextEvent(event.text, tuple(logprob_entries(event.logprobs))) if event.text or event.logprobs else None
    if isinstance(event, ReasoningDelta):
        return ReasoningEvent(event.text) if event.text else None
    return None


class Calls:
    """The calls of one answer, as they grow: they are told when they are whole, so that none is told twice."""

    def __init__(self, taken: Iterable[str]) -> None:
        """``taken`` are the ids of the run's earlier calls."""
        self._taken = set(taken)
        self._calls: dict[int, tuple[str, str, list[str]]] = {}

    def add(self, delta: ToolCallDelta) -> None:
        """A piece of one; the first has its id and its name. An id that is taken or empty becomes another."""
        if delta.call not in self._calls:
            call_id = delta.id if delta.id and delta.id not in self._taken else ids.new_id("call_")
            self._taken.add(call_id)
            self._calls[delta.call] = call_id, delta.name or "", []
        self._calls[delta.call][2].append(delta.arguments)

    def whole(self) -> tuple[Call, ...]:
        """In the order in which they began."""
        return tuple(
            Call(id=call_id, name=name, arguments="".join(pieces)) for call_id, name, pieces in self._calls.values()
        )
