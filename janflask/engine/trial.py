"""Times real decodes on a context opened for it."""

from __future__ import annotations

import time
from array import array

from janflask.engine.context import ContextOptions, LlamaContext
from janflask.engine.model import Model
from janflask.errors import EngineError

TRIES = 4
ENOUGH = 1000.0  # milliseconds spent on one figure, after which it is not tried again


class Trial:
    """A context opened for measuring, with a prompt of ``depth`` tokens in every slot."""

    def __init__(self, model: Model, options: ContextOptions) -> None:
        self.context = LlamaContext(model, options)
        self.n_seq = options.n_seq
        self._filled: memoryview | None = None  # a filled slot's state, where the memory cannot forget an end
        self.spread = 1.0  # the worst ratio of a figure's median to its best: how much others disturbed
        # Any tokens do, as long as they are real ones and vary: the time does not depend on what they say.
        self.tokens = array("i", (1000 + 7919 * i % max(1, model.n_vocab // 2) for i in range(options.ctx_len)))
        self.tokens = array("i", (token % model.n_vocab for token in self.tokens))

    def step(self, parts: list[tuple[int, int, int]]) -> float:
        """Milliseconds of one decode of (slot, start, count) parts."""
        batch = self.context.batch
        batch.clear()
        for slot, start, count in parts:
            batch.add(self.tokens, start, count, slot, True)
        started = time.perf_counter()
        code = self.context.decode()
        if code != 0:
            raise EngineError(f"the start-up proof failed: llama_decode gave {code}")
        return (time.perf_counter() - started) * 1e3

    def fill(self, depth: int) -> None:
        """A prompt of ``depth`` tokens in every slot, each in cells of its own, as real conversations are."""
        chunk = self.context.options.batch_size
        for start in range(0, depth, chunk):
            self.step([(0, start, min(chunk, depth - start))])
        self.context.clone(0, range(1, self.n_seq))
        if not self.context.model.can_trim:
            self._filled = self.context.state(0)

    def decode(self, depth: int, slots: int) -> float:
        """Milliseconds of a step in which ``slots`` sequences decode one token; the best of some tries.

        The best, not the median: other processes make a step longer, never shorter.
        """
        return self._best([(slot, depth, 1) for slot in range(slots)], depth)

    def slice(self, depth: int, count: int) -> float:
        """Milliseconds of a prompt slice of ``count`` tokens; the best of some tries."""
        return self._best([(0, depth, count)], depth)

    def _best(self, parts: list[tuple[int, int, int]], depth: int) -> float:
        times: list[float] = []
        while len(times) < TRIES and sum(times) < ENOUGH:
            times.append(self.step(parts))
            for slot, _, _ in parts:
                self._go_back(slot, depth)
        self.spread = max(self.spread, sorted(times)[len(times) // 2] / min(times))
        return min(times)

    def _go_back(self, slot: int, depth: int) -> None:
        """The slot is as ``fill`` left it."""
        if self._filled is None:
            self.context.trim(slot, depth)
        else:
            self.context.trim(slot, 0)
            self.context.put(slot, self._filled)

    def close(self) -> None:
        self.context.close()
