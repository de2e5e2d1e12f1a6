"""What a backend says of an answer while it grows, from its start to its end."""

from __future__ import annotations

from collections.abc import Generator

from janflask.ipc.messages.engine import Done, Finished, Started
from janflask.parsing.deltas import Delta, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta

__all__ = [
    "Delta",
    "Done",
    "Event",
    "Events",
    "Finished",
    "ReasoningDelta",
    "RefusalDelta",
    "Started",
    "TextDelta",
    "ToolCallDelta",
]

# ``index`` counts the choices of all prompts: the i-th prompt's start at i * n. Of each answer there is a Started, then
# its deltas, a Finished for each choice, and one Done, the last event.
Event = Started | Delta | Finished | Done

# Lists of events as they come; an empty list after each silence of the length that was asked for. Nothing happens
# before the first ``next``, and what can be refused without loading a model is raised by it. Closing cancels.
Events = Generator[list[Event], None, None]
