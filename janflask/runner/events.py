"""What a model says, as a run's log holds it."""

from __future__ import annotations

from janflask.inference.deltas import Event, ReasoningDelta, TextDelta, ToolCallDelta
from janflask.storage.run_log import LogEvent, ReasoningEvent, TextEvent, ToolCallEvent


def log_event(event: Event) -> LogEvent | None:
    """None for what is no delta, and for one that says nothing. A run has one choice."""
    if isinstance(event, TextDelta):
        return TextEvent(event.text) if event.text else None
    if isinstance(event, ReasoningDelta):
        return ReasoningEvent(event.text) if event.text else None
    if isinstance(event, ToolCallDelta):
        return ToolCallEvent(event.call, event.id, event.name, event.arguments)
    return None
