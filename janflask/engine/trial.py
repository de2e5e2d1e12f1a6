"""Times real decodes on a small context opened for it, one at a time. A decode ends at once when somebody comes."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from janflask.engine.context import ABORTED, ContextOptions, LlamaContext
from janflask.engine.model import Model
from janflask.errors import EngineError

CHUNK = 64  # tokens of a step that fills a slot


class SpoiltError(EngineError):
    """What a trial's memory holds is unknown: it was left off in the middle, and its memory cannot be cut."""


class Trial:
    """A context with ``held`` tokens in every slot, which only ``fill`` adds to.

    Where the memory cannot forget a sequence's end, every step does, for there is no way back.
    """

    def __init__(self, model: Model, options: ContextOptions, abort_at: int | None = None) -> None:
        self.context = LlamaContext(model, options, abort_at)
        self.n_seq = options.n_seq
        self._held = [0] * options.n_seq
        # Any tokens do, as long as they are real ones and vary: the time does not depend on what they say.
        kinds = max(1, model.n_vocab // 2)
        self._tokens = array("i", ((1000 + 7919 * i % kinds) % model.n_vocab for i in range(options.ctx_len)))

    def step(self, parts: list[tuple[int, int]], *, stays: bool = False) -> float | None:
        """Milliseconds of one decode of (slot, tokens) parts, forgotten again unless it ``stays``.

        None: it was left off, nothing has changed. Raises SpoiltError, EngineError when llama.cpp refuses it.
        """
        batch = self.context.batch
        batch.clear()
        for slot, count in parts:
            if self._held[slot] + count > len(self._tokens):  # a memory that cannot be cut: it starts over
                self.context.trim(slot, 0)
                self._held[slot] = 0
            batch.add(self._tokens, self._held[slot], count, slot, 1)
        started = time.perf_counter()
        code = self.context.decode()
        took = (time.perf_counter() - started) * 1e3
        if code not in (0, ABORTED):
            raise EngineError(f"a trial failed: llama_decode gave {code}")
        for slot, count in parts:
            if stays and code == 0:
                self._held[slot] += count
            else:
                self._forget(slot, count, done=code == 0)
        return took if code == 0 else None

    def _forget(self, slot: int, count: int, *, done: bool) -> None:
        if self.context.model.can_trim:
            self.context.trim(slot, self._held[slot])
        elif done:
            self._held[slot] += count
        else:
            raise SpoiltError("a trial was left off in the middle")

    def rows(self, place: int, count: int) -> list[NDArray[np.float32]] | None:
        """The logits of ``count`` tokens of slot 0 that stand ``place`` behind those it holds.

        What was computed before that place stays, what comes from there on is computed anew, and stays, too. None: it
        was left off, nothing has changed.
        """
        context, start = self.context, self._held[0] + place
        context.trim(0, start)
        context.batch.clear()
        last = context.batch.add(self._tokens, start, count, 0, count)
        code = context.decode()
        if code == ABORTED:
            context.trim(0, start)
            return None
        if code != 0:
            raise EngineError(f"a trial failed: llama_decode gave {code}")
        return [context.logits(last - back) for back in reversed(range(count))]

    def fill(self, depth: int, slots: int | None = None) -> Iterator[None]:
        """``depth`` tokens in every slot, each in cells of its own, as real conversations have them; in pieces.

        ``slots``: the first ones only.
        """
        self.context.trim(0, self._held[0])
        while self._held[0] < depth:
            self.step([(0, min(CHUNK, depth - self._held[0]))], stays=True)
            yield
        for slot in range(1, self.n_seq if slots is None else slots):
            self.context.trim(slot, 0)
            self.context.clone(0, [slot])
            self._held[slot] = self._held[0]
            yield

    def set_threads(self, count: int) -> None:
        self.context.set_threads(count)

    def close(self) -> None:
        self.context.close()
