"""How a step is divided: the tokens that each running sequence brings.

A step is one ``llama_decode`` for everybody: each decoding sequence brings its newest token (and those that its
constraint forces behind it), and what is left of the step's budget is filled with slices of the prompts in prefill.
While somebody decodes, a step brings at most ``slice_size`` prompt tokens, so that nobody's stream stalls behind a long
prompt; while nobody does, ``chunk_size``. Where more short prompts wait than there are streams to be held up, it brings
as many more: those who wait for their first token count as much as those who wait for their next.

Half of the budget goes to the prompt that was admitted first, the rest to those with the fewest tokens left: a long
prompt cannot hold a short one back, and is itself never starved.

Where each sequence has a stream of its own llama.cpp computes a step in parts (``llama_batch_allocr::split_equal``): of
neighbours as many tokens each as the shortest has left. So a slice beside those who decode loses one token to their
part, and 64 of them would be the 63 that flash attention computes one by one (``Limits.rides``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from janflask.engine.sequence import Sequence

SHORT = 2  # slices that a short prompt takes at most


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step and the KV memory may hold, in tokens."""

    kv_cells: int
    shared_cells: bool  # one pool for all slots (unified KV); false: every slot has its own ctx_len
    chunk_size: int  # prompt tokens of a step in which nobody decodes
    slice_size: int  # prompt tokens of a step in which somebody does
    rides: int = 0  # prompt tokens that are computed among the others' newest, and not with their slice
    scored_rows: int = 64  # of a step's prompt tokens, those that get logits: each is a row as long as the vocabulary


@dataclass(frozen=True, slots=True)
class Slice:
    """``count`` tokens of a sequence, from its first uncomputed one, in one step."""

    sequence: Sequence
    count: int

    @property
    def outputs(self) -> int:
        """How many of the tokens, the last ones, get logits: all that predict a token not yet told, or the newest."""
        sequence = self.sequence
        if sequence.echo is not None and sequence.is_scoring:
            return max(0, min(self.count, sequence.n_computed + self.count + 1 - max(1, sequence.echo.done)))
        return int(self.count == sequence.n_left)


def sliced(running: Iterable[Sequence], limits: Limits, slice_size: int) -> list[Slice]:
    """The next step of those ``running`` (in order of admission), by slot: llama.cpp computes neighbours together.

    ``slice_size``: that of the limits, or what the governor has made of it.
    """
    slices: list[Slice] = []
    prefills: list[Sequence] = []
    for sequence in running:
        if sequence.is_prefilling:
            prefills.append(sequence)
        elif sequence.n_left:
            slices.append(Slice(sequence, sequence.n_left))
    room = limits.chunk_size - sum(part.count - 1 for part in slices)
    budget = min(_budget(len(slices), prefills, limits, slice_size), room)
    if prefills and budget > 0:
        slices += _divided(budget, prefills, limits.scored_rows)
    slices.sort(key=lambda part: part.sequence.slot or 0)
    return slices


def _budget(decoding: int, prefills: list[Sequence], limits: Limits, slice_size: int) -> int:
    """Prompt tokens of a step in which so many sequences decode."""
    if decoding == 0:
        return limits.chunk_size
    short = sum(sequence.n_left <= SHORT * slice_size for sequence in prefills)
    return slice_size * max(1, short // decoding) + limits.rides


def _divided(budget: int, prefills: list[Sequence], scored_rows: int) -> list[Slice]:
    first, *others = prefills
    shares = _Shares(budget, scored_rows)
    if others:
        shares.give(first, (budget + 1) // 2, (scored_rows + 1) // 2)
    for sequence in sorted(others, key=lambda other: other.n_left):
        shares.give(sequence)
    shares.give(first)
    return [Slice(sequence, count) for sequence in prefills if (count := shares.of(sequence))]


class _Shares:
    """A step's prompt tokens, and those of them that are scored, as they are given out."""

    def __init__(self, tokens: int, scored: int) -> None:
        self._tokens = tokens
        self._scored = scored
        self._given: dict[Sequence, int] = {}

    def of(self, sequence: Sequence) -> int:
        """Tokens that it has got."""
        return self._given.get(sequence, 0)

    def give(self, sequence: Sequence, tokens: int | None = None, scored: int | None = None) -> None:
        """As many as it needs and there are, at most ``tokens``, or ``scored`` if its prompt is."""
        count = min(self._tokens if tokens is None else tokens, sequence.n_to_bound - self.of(sequence))
        if sequence.is_scoring:
            count = min(count, self._scored if scored is None else scored)
            self._scored -= count
        self._tokens -= count
        self._given[sequence] = self.of(sequence) + count
