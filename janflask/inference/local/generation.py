"""The generations of one API request, read as one stream of events.

A chat has one generation, a completion one for each of its prompts. Every generation is a connection of its own to the
engine; closing it cancels.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from janflask.errors import JanflaskError, TimeoutExceededError
from janflask.inference.deltas import Event, TextDelta
from janflask.inference.totals import total
from janflask.inference.waiting import Waiter
from janflask.ipc.clients.engine import Generation, open_generation
from janflask.ipc.messages.engine import Chunk, Done, Echo, Finished, Started
from janflask.ipc.messages.generation import GenerateRequest

CONCURRENT = 8  # prompts of one request that are under way at once; a long list must not fill the engine's queue


@dataclass(frozen=True, slots=True)
class _Running:
    generation: Generation
    first_index: int
    n: int  # choices


class Generations:
    """Opens a generation for each request, a few at once, and merges what they say.

    A prompt that the engine tells comes as text of each of its choices.
    """

    def __init__(self, socket_path: str, requests: Sequence[GenerateRequest], waiter: Waiter) -> None:
        """Connects. Raises EngineCrashedError or TimeoutExceededError when the engine can't be reached."""
        self._socket_path = socket_path
        self._waiter = waiter
        self._running: dict[int, _Running] = {}
        self._results: list[Done] = []
        first_indexes = [0]
        for request in requests:
            first_indexes.append(first_indexes[-1] + request.n)
        self._waiting = deque(zip(first_indexes, requests, strict=False))
        try:
            self._open()
        except JanflaskError:
            self.close()
            raise

    def events(self, beat: float, patience: float) -> Generator[list[Event]]:
        """Lists of events as they come; an empty list after each ``beat`` seconds without any.

        Raises what the engine answers, EngineCrashedError when it ends, ClientDisconnectedError, and
        TimeoutExceededError after ``patience`` seconds of silence. Closes every generation when it ends.
        """
        try:
            last = time.monotonic()
            while self._running:
                ended = len(self._results)
                batch = self._next_batch(beat)
                if batch or len(self._results) > ended:
                    last = time.monotonic()
                elif time.monotonic() - last > patience:
                    raise TimeoutExceededError(f"the engine said nothing for {patience:g} s: the request is given up")
                if batch or len(self._results) == ended:  # an end that comes alone is no silence
                    yield batch
            yield [total(self._results)]
        finally:
            self.close()

    def close(self) -> None:
        """Cancels what is still under way. Idempotent."""
        for running in self._running.values():
            self._waiter.unwatch(running.generation)
            running.generation.close()
        self._running.clear()
        self._waiting.clear()

    def _open(self) -> None:
        while self._waiting and len(self._running) < CONCURRENT:
            first_index, request = self._waiting.popleft()
            generation = open_generation(self._socket_path, request)
            self._running[generation.fileno()] = _Running(generation, first_index, request.n)
            self._waiter.watch(generation)

    def _next_batch(self, beat: float) -> list[Event]:
        ready = [fileno for fileno, running in self._running.items() if running.generation.buffered()]
        batch: list[Event] = []
        for fileno in ready or self._waiter.wait(beat):
            running = self._running[fileno]
            for message in running.generation.receive():
                if isinstance(message, Done):
                    self._end(fileno, message)
                elif isinstance(message, Echo):
                    choices = range(running.first_index, running.first_index + running.n)
                    batch.extend(TextDelta(index, message.text, message.logprobs) for index in choices)
                else:
                    batch.append(_shifted(message, running.first_index))
        return batch

    def _end(self, fileno: int, done: Done) -> None:
        """The next one is there before this one is gone: in between the engine might take itself for idle."""
        running = self._running.pop(fileno)
        try:
            self._results.append(done)
            self._open()
        finally:
            self._waiter.unwatch(running.generation)
            running.generation.close()


def _shifted(message: Started | Chunk | Finished, first_index: int) -> Event:
    if isinstance(message, Chunk):
        return TextDelta(message.index + first_index, message.text, message.logprobs)
    if isinstance(message, Finished):
        return Finished(message.index + first_index, message.reason, message.stop)
    return message
