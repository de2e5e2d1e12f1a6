"""What a step brings of the prompts, beside those who decode, and which slots those who come are given."""

from __future__ import annotations

from array import array

import pytest

from janflask.engine.prefix_cache import PrefixCache
from janflask.engine.scheduler import Scheduler
from janflask.engine.sequence import Sequence
from janflask.engine.slices import Limits
from tests.fakes.fake_context import FakeContext, FakeSampler, FakeText
from tests.unit.engine.conftest import Collector

SLOTS = 8


def scheduler(*, rides: int = 0) -> Scheduler:
    limits = Limits(kv_cells=SLOTS * 8192, shared_cells=False, chunk_size=512, slice_size=64, rides=rides)
    cache = PrefixCache(SLOTS, streams=True)
    return Scheduler(cache, FakeContext(slots=SLOTS, ctx_len=8192, capacity=600), limits)


def sequence(length: int, seed: int) -> Sequence:
    tokens = array("i", [(seed * 31 + i) % 251 for i in range(length)])
    return Sequence(tokens, length, 0, 100, FakeSampler(0), FakeText(()), Collector())


def planned(scheduler: Scheduler, decoding: int, *prompts: int) -> list[int]:
    """Prompt tokens of a step with so many sequences that decode and prompts of these lengths, in order of arrival."""
    streams = [sequence(2, seed) for seed in range(decoding)]
    others = [sequence(length, 100 + seed) for seed, length in enumerate(prompts)]
    scheduler.submit(streams + others)
    scheduler.admit(0.0)
    for one in streams:
        one.n_computed = 1
    counts = {part.sequence: part.count for part in scheduler.plan()}
    assert all(counts[one] == 1 for one in streams)
    return [counts.get(one, 0) for one in others]


def test_a_prompt_holds_streams_up_for_one_slice() -> None:
    assert planned(scheduler(), 3, 300) == [64]


@pytest.mark.parametrize(("decoding", "tokens"), [(1, 400), (2, 192), (3, 128), (4, 64), (5, 64)])
def test_more_short_prompts_than_streams_are_computed_sooner(decoding: int, tokens: int) -> None:
    prompts = [80] * min(6, SLOTS - decoding)
    given = planned(scheduler(), decoding, *prompts)
    expected = min(sum(prompts), 64 * max(1, len(prompts) // decoding))
    assert sum(given) == expected


def test_long_prompts_that_wait_together_make_no_larger_step() -> None:
    assert sum(planned(scheduler(), 1, 300, 300, 300)) == 64


def test_nobody_is_held_up_by_the_whole_of_the_prompts() -> None:
    assert planned(scheduler(), 0, 80, 90, 100) == [80, 90, 100]


def test_what_is_computed_among_the_others_newest_comes_on_top() -> None:
    assert planned(scheduler(rides=1), 3, 300) == [65]
    assert planned(scheduler(rides=1), 0, 81) == [81]


def test_streams_are_computed_beside_each_other() -> None:
    busy = scheduler()
    first = [sequence(40, seed) for seed in range(4)]
    busy.submit(first)
    busy.admit(0.0)
    for one in first:
        busy.computed(next(part for part in busy.plan() if part.sequence is one))
        if one is not first[2]:
            busy.finish(one)
    # Slot 2 is busy; 0, 1 and 3 hold prompts of others, 4 to 7 nothing: one beside it is not worth less for that.
    later = sequence(40, 9)
    busy.submit([later])
    busy.admit(0.0)
    assert later.slot in (1, 3)


def test_answers_that_begin_together_lie_beside_each_other_whatever_was_there_before() -> None:
    busy = scheduler()
    seed = 0
    for count in (8, 1, 1, 1, 4, 4, 4):
        wave = [sequence(200, seed := seed + 1) for _ in range(count)]
        busy.submit(wave)
        busy.admit(0.0)
        slots = sorted(one.slot for one in wave if one.slot is not None)
        assert slots == list(range(slots[0], slots[0] + count))
        while parts := busy.plan():
            for part in parts:
                busy.computed(part)
        for one in wave:
            busy.finish(one)
