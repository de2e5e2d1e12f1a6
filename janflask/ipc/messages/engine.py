"""What an engine is asked and answers, and what it and its supervisor say to each other."""

from __future__ import annotations

from typing import Annotated

import msgspec

from janflask.ipc.frames import Message
from janflask.ipc.messages.generation import GenerateRequest, Timings, Usage
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.engine_info import EngineInfo, EngineStats, Knobs, OpenAnswer
from janflask.models.latencies import Counted
from janflask.parsing.deltas import TokenLogprob

MAX_TEXT = 1 << 20  # characters to be tokenized: an engine takes no requests meanwhile

MAX_TOKENS = 1 << 20  # to be made text


class Generate(Message, frozen=True):
    request: GenerateRequest
    request_id: str | None = None  # of who asks for it, for the logs


class Started(Message, frozen=True):
    """The request is valid and queued; from here on a failure is an ``ErrorReply`` in the stream."""

    prompt_tokens: int


class Chunk(Message, frozen=True, array_like=True, gc=False):
    """Text of one choice. ``text`` may be empty (bytes held back) when there are log-probabilities."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Echo(Message, frozen=True, array_like=True, gc=False):
    """A part of the prompt, as a ``Chunk`` of every choice; all of it comes before the first of these."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Finished(Message, frozen=True):
    index: int
    reason: str  # a FinishReason
    stop: str | None = None  # the stop string that ended it, where that is known


class Done(Message, frozen=True):
    usage: Usage
    timings: Timings


class GetStats(Message, frozen=True):
    pass


class Stats(Message, frozen=True):
    stats: EngineStats


class GetMetrics(Message, frozen=True):
    pass


class Metrics(Message, frozen=True):
    """All that an engine counts: its load, times by their names (``models.latencies``), and how answers ended."""

    stats: EngineStats
    latencies: dict[str, Counted]
    ended: dict[str, int]  # by FinishReason, ``error`` or ``abort``; since start


class GetLoad(Message, frozen=True):
    pass


class Load(Message, frozen=True):
    """What an engine has to do now."""

    stats: EngineStats
    answers: list[OpenAnswer]  # those it computes, then those that wait, in order


class Tokenize(Message, frozen=True):
    """A text to be cut into tokens; flags and ``cuts`` are ``GenerateRequest``'s, ``pieces`` asks for their bytes."""

    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
    add_special: bool
    parse_special: bool
    pieces: bool = False
    cuts: tuple[int, ...] = ()


class GetSpecials(Message, frozen=True):
    pass


class Specials(Message, frozen=True):
    """The texts that become one token each where special tokens are parsed, however they are written.

    ``control`` are never ordinary text; ``user_defined`` may be: runs of blanks, HTML's tags.
    """

    control: tuple[str, ...]
    user_defined: tuple[str, ...] = ()


class Tokens(Message, frozen=True):
    ids: list[int]
    pieces: list[bytes] | None = None  # of each token, if asked for


class Detokenize(Message, frozen=True):
    tokens: Annotated[tuple[int, ...], msgspec.Meta(max_length=MAX_TOKENS)]


class Text(Message, frozen=True):
    """U+FFFD stands for bytes that are no UTF-8."""

    text: str


class Embed(Message, frozen=True):
    """Texts, or token ids that are taken as they are, to be made vectors.

    ``dimensions`` cuts each vector to its beginning, of length 1 again. ``first`` is the number of the first input in
    the client's request, for error messages.
    """

    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    first: int = 0


class Embeddings(Message, frozen=True):
    """One vector an input: little-endian 32-bit floats, of length 1; and the tokens of all inputs."""

    vectors: list[bytes]
    prompt_tokens: int


class Launch(Message, frozen=True):
    """``log_path``: what the engine writes goes there from now on; None: it goes to the right place already."""

    spec: EngineSpec
    log_path: str | None = None


class Progress(Message, frozen=True):
    """What a starting engine is doing: ``waiting`` for a Launch, ``loading`` or ``proving``."""

    stage: str
    fraction: float  # of this stage, 0 to 1


class Ready(Message, frozen=True):
    """The model answered a decode and the socket listens. ``notes``: what a user should know of how it runs."""

    info: EngineInfo
    notes: tuple[str, ...] = ()


class Retuned(Message, frozen=True):
    """A running engine has other knobs than it told, or is surer of them."""

    knobs: Knobs


class Shutdown(Message, frozen=True):
    """End every request with ``model_stopped``, then exit."""


class Retire(Message, frozen=True):
    """Take no more requests and exit, if no request is under way."""


class Retired(Message, frozen=True):
    """``idle`` false: a request is under way, and the engine goes on as if it had not been asked."""

    idle: bool
