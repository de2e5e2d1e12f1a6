"""What comes of a request's generations in pieces: an empty list stands for a silence, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from janflask.inference.deltas import Event, TextDelta
from janflask.inference.local import generation
from janflask.inference.local.generation import Generations
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.engine import Chunk, Done, Finished
from janflask.ipc.messages.generation import GenerateRequest, Timings, Usage

Message = Chunk | Finished | Done
TIMINGS = Timings(cache_n=0, prompt_n=1, prompt_ms=1.0, predicted_n=1, predicted_ms=1.0, queue_ms=0.0)
DONE = Done(Usage(prompt_tokens=1, completion_tokens=1, cached_tokens=0), TIMINGS)


class Scripted:
    """A generation that tells one list of messages after the other; for an empty one there is nothing to read."""

    def __init__(self, lists: Sequence[Sequence[Message]]) -> None:
        self.lists = list(lists)

    def fileno(self) -> int:
        return 7

    def buffered(self) -> bool:
        return False

    def receive(self) -> Iterator[Message]:
        yield from self.lists.pop(0)

    def close(self) -> None:
        """Nothing to close."""


class Waits:
    """A waiter of one generation."""

    def __init__(self, scripted: Scripted) -> None:
        self.scripted = scripted

    def watch(self, _: object) -> None:
        """It is the only one."""

    unwatch = watch

    def wait(self, _: float) -> list[int]:
        if self.scripted.lists[0]:
            return [7]
        self.scripted.lists.pop(0)
        return []


def told(monkeypatch: pytest.MonkeyPatch, lists: Sequence[Sequence[Message]]) -> list[list[Event]]:
    scripted = Scripted(lists)
    monkeypatch.setattr(generation, "open_generation", lambda *_: scripted)
    request = GenerateRequest(prompt="Hi")
    return list(Generations("socket", [request], cast(Waiter, Waits(scripted))).events(1, 100))


def test_an_end_that_comes_alone_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    *batches, last = told(monkeypatch, [[Chunk(0, "Hi")], [], [Finished(0, "stop")], [DONE]])
    assert batches == [[TextDelta(0, "Hi")], [], [Finished(0, "stop")]]
    assert len(last) == 1
