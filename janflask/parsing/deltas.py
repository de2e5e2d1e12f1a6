"""What is said of an answer while it grows: pieces of text, of reasoning, of tool calls, and log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """One candidate at one position: its text (with U+FFFD for a broken character), its bytes, its log-probability."""

    token: str
    raw: bytes
    logprob: float
    id: int


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The chosen token at one position, and the likeliest candidates there.

    Log-probabilities are natural logarithms of the softmax over the model's own logits, before any sampler. ``width``
    is how many characters of the text it stands for; None: those that its bytes complete.
    """

    token: str
    raw: bytes
    logprob: float | None  # None: a prompt's first token, which nothing predicts
    id: int
    top: tuple[TopLogprob, ...] = ()
    width: int | None = None


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
