"""What a backend says of an answer while it grows: pieces of text, of reasoning, of tool calls, and how it ends."""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from janflask.ipc.messages.engine import Done, Finished, Started
from janflask.ipc.messages.generation import TokenLogprob

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


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """Text of one choice. ``text`` may be empty (bytes held back) when there are log-probabilities."""

    index: int  # of the choice
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(msgspec.Struct, frozen=True, gc=False):
    """What the model thinks before it answers."""

    index: int  # of the choice
    text: str


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of a tool call. The first one of a call has its ``id`` and ``name``; ``arguments`` is JSON that grows."""

    index: int  # of the choice
    call: int  # which of the choice's calls, from 0
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class RefusalDelta(msgspec.Struct, frozen=True, gc=False):
    """Why an answer that is finished is not what was asked for. Its text stands, and comes before."""

    index: int  # of the choice
    text: str


Delta = TextDelta | ReasoningDelta | ToolCallDelta | RefusalDelta

# ``index`` counts the choices of all prompts: the i-th prompt's start at i * n. Of each answer there is a Started, then
# its deltas, a Finished for each choice, and one Done, the last event.
Event = Started | Delta | Finished | Done

# Lists of events as they come; an empty list after each silence of the length that was asked for. Nothing happens
# before the first ``next``, and what can be refused without loading a model is raised by it. Closing cancels.
Events = Generator[list[Event], None, None]
