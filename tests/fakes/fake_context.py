"""A model made of a hash: what it says next depends on exactly what its KV memory holds.

The memory is simulated cell by cell, with llama.cpp's rules (positions without gaps, copies only into empty slots, a
pool of cells in unified mode). A scheduler or prefix cache that mixes up a slot, a position or a length changes the
text, or is refused at once.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable

EOG = 256
N_VOCAB = 257


Model = Callable[[bytes, int], int]  # what comes behind a context; a seed changes it


class FakeVocab:
    def piece(self, token: int) -> bytes:
        return b"" if token == EOG else bytes([token])

    def hides(self, token: int) -> bool:
        return token == EOG


class FakeBatch:
    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.parts: list[tuple[array, int, int, int, int]] = []

    def clear(self) -> None:
        self.parts = []

    def add(self, tokens: array, start: int, count: int, seq: int, outputs: int) -> int:
        if start < 0 or count < 1 or start + count > len(tokens):
            raise ValueError("slice outside of the tokens")
        if not 0 <= outputs <= count:
            raise ValueError("more outputs than tokens")
        self.parts.append((tokens, start, count, seq, outputs))
        total = sum(part[2] for part in self.parts)
        if total > self.capacity:
            raise ValueError("batch is full")
        return total - 1


class FakeSampler:
    """Greedy: takes the hash's token. With a seed it takes another one; ``is_random``: with each draw, too."""

    def __init__(self, seed: int = 0, *, is_random: bool = False) -> None:
        self.seed = seed
        self.is_random = is_random
        self.draws = 0
        self.accepted: list[int] = []  # beside those that were drawn

    def accept(self, token: int) -> None:
        self.accepted.append(token)

    def draw(self, model: Model, context: bytes) -> int:
        self.draws += 1
        return model(context, self.seed + self.draws * self.is_random)

    def logprobs(self) -> tuple[float, list[tuple[int, float]]]:
        return -0.5, [(65, -0.5), (66, -1.5)]


class FakeText:
    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self.stops = stop
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> str:
        text = chr(token)
        self.text += text
        self.stopped = any(stop in self.text for stop in self.stops)
        return "" if self.stopped else text

    @property
    def stop(self) -> str | None:
        return next((stop for stop in self.stops if stop in self.text), None)

    def finish(self) -> str:
        return ""


def next_token(context: bytes, seed: int = 0) -> int:
    """The model: a lower-case letter, or the end with a chance of 1 in 40."""
    digest = hashlib.blake2b(context, digest_size=4, salt=seed.to_bytes(8, "little")).digest()
    value = int.from_bytes(digest, "little")
    return EOG if value % 40 == 0 else 97 + value % 26


def repeating_token(context: bytes, seed: int = 0) -> int:
    """A model that says again what it said: mostly the last two tokens decide, now and then all of the context."""
    token = next_token(context, seed)
    return token if token == EOG or token % 9 == 0 else 97 + next_token(context[-8:], seed) % 12


def token_logprob(context: bytes, token: int) -> float:
    """What the model gives a token behind a context: from -1 to 0, another one for every pair."""
    digest = hashlib.blake2b(context, digest_size=4, salt=token.to_bytes(8, "little")).digest()
    return -int.from_bytes(digest, "little") / (1 << 32)


def expected_scores(prompt: bytes) -> list[float | None]:
    """Of each of a prompt's tokens; nothing predicts the first."""
    tokens = array("i", list(prompt))
    return [None, *[token_logprob(tokens[:i].tobytes(), tokens[i]) for i in range(1, len(tokens))]]


def expected_text(
    prompt: bytes, max_tokens: int, seed: int = 0, *, model: Model = next_token, is_random: bool = False
) -> str:
    """What a lonely sequence says, computed without any of the code under test."""
    tokens = list(prompt)
    text = ""
    for draw in range(1, max_tokens + 1):
        token = model(array("i", tokens).tobytes(), seed + draw * is_random)
        if token == EOG:
            break
        tokens.append(token)
        text += chr(token)
    return text


class FakeContext:
    """See the module. ``fail_at`` makes decode number so-and-so give a code; ``computed`` counts tokens decoded."""

    def __init__(
        self,
        *,
        slots: int = 4,
        ctx_len: int = 256,
        kv_cells: int | None = None,
        capacity: int = 128,
        can_trim: bool = True,
        model: Model = next_token,
    ) -> None:
        self.model = model
        self.vocab = FakeVocab()
        self.batch = FakeBatch(capacity)
        self.ctx_len = ctx_len
        self.kv_cells = kv_cells
        self.can_trim = can_trim
        self.memory: list[list[int]] = [[] for _ in range(slots)]
        self.computed = 0
        self.steps: list[list[tuple[int, int]]] = []  # per decode: (slot, count)
        self.outputs: list[int] = []  # rows of logits per decode
        self.fail_at: dict[int, int] = {}
        self.refuses_states = False
        self.copies: list[tuple[int, int, int]] = []
        self._rows: dict[int, bytes] = {}
        self.kv_bytes: int | None = None

    def decode(self) -> int:
        number = len(self.steps)
        self.steps.append([(part[3], part[2]) for part in self.batch.parts])
        if number in self.fail_at:
            return self.fail_at[number]
        need = sum(part[2] for part in self.batch.parts)
        if self.kv_cells is not None and sum(map(len, self.memory)) + need > self.kv_cells:
            return 1
        self._rows = {}
        row = -1
        for tokens, start, count, seq, outputs in self.batch.parts:
            row += count
            cells = self.memory[seq]
            if len(cells) != start:
                raise AssertionError(f"slot {seq} holds {len(cells)} tokens, the batch goes on at {start}")
            if start + count > self.ctx_len:
                raise AssertionError("beyond the context")
            cells.extend(tokens[start : start + count])
            self.computed += count
            for back in range(outputs):
                self._rows[row - back] = array("i", cells[: len(cells) - back]).tobytes()
        self.outputs.append(len(self._rows))
        return 0

    def sample(
        self, rows: list[int], samplers: list[FakeSampler], masks: list[frozenset[int] | None] | None = None
    ) -> list[int]:
        """A mask is the set of tokens that may be drawn: the model's own, or else the lowest."""
        drawn = [sampler.draw(self.model, self._rows[row]) for row, sampler in zip(rows, samplers, strict=True)]
        allowed = masks or [None] * len(rows)
        return [
            token if mask is None or token in mask else min(mask, default=-1)
            for token, mask in zip(drawn, allowed, strict=True)
        ]

    def score(
        self, row: int, tokens: array, start: int, count: int, sampler: FakeSampler
    ) -> list[tuple[float, list[tuple[int, float]]]]:
        scores = [token_logprob(self._rows[row + i], tokens[start + i]) for i in range(count)]
        return [(score, [(65, -0.5)]) for score in scores]

    eog = frozenset({EOG})

    def is_eog(self, token: int) -> bool:
        return token in self.eog

    def copy(self, source: int, target: int, length: int) -> None:
        if self.memory[target]:
            raise AssertionError(f"copy into slot {target}, which is not empty")
        if length > len(self.memory[source]):
            raise AssertionError("copy of more than there is")
        self.copies.append((source, target, length))
        self.memory[target] = self.memory[source][:length]

    def trim(self, slot: int, length: int) -> bool:
        if 0 < length < len(self.memory[slot]) and not self.can_trim:
            return False
        if length > len(self.memory[slot]):
            raise AssertionError("trim to more than there is")
        del self.memory[slot][length:]
        return True

    def state(self, slot: int) -> memoryview:
        return memoryview(array("i", self.memory[slot]).tobytes())

    def state_size(self, slot: int) -> int:
        return 4 * len(self.memory[slot])

    def checkpoint(self, slot: int) -> memoryview:
        if not self.memory[slot]:
            raise AssertionError("a checkpoint of nothing")
        return self.state(slot)

    def rewind(self, slot: int, state: bytes | memoryview, length: int) -> bool:
        """A partial state holds no tokens: what it is to be put over has to begin with those it was taken of."""
        tokens = array("i", bytes(state)).tolist()
        if len(tokens) != length or self.memory[slot][:length] != tokens:
            raise AssertionError(f"slot {slot} is put back to {length} tokens that it does not begin with")
        if self.refuses_states:
            self.memory[slot] = []
            return False
        self.memory[slot] = tokens
        return True

    def fork(self, source: int, target: int) -> bool:
        if self.memory[target]:
            raise AssertionError(f"copy into slot {target}, which is not empty")
        if self.refuses_states:
            return False
        self._need(len(self.memory[source]))
        self.memory[target] = self.memory[source][:]
        return True

    def _need(self, count: int) -> None:
        """What is copied or brought back whole takes cells of its own."""
        if self.kv_cells is not None and sum(map(len, self.memory)) + count > self.kv_cells:
            raise AssertionError(f"no cells for {count} tokens")

    def restore(self, slot: int, state: bytes | memoryview, length: int) -> bool:
        if self.memory[slot]:
            raise AssertionError(f"restored into slot {slot}, which is not empty")
        if self.refuses_states:
            return False
        self._need(length)
        self.memory[slot] = array("i", bytes(state)).tolist()
        if len(self.memory[slot]) != length:
            raise AssertionError(f"a state of {len(self.memory[slot])} tokens for one of {length}")
        return True
