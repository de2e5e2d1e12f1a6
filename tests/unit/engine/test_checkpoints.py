"""Where checkpoints are taken, which are kept, and that a loop over a memory that cannot be cut is never wrong."""

from __future__ import annotations

import random
from array import array
from pathlib import Path

import pytest

from janflask.engine.checkpoints import GAP, RECENT, Checkpoints, places, reach, thinned
from janflask.engine.ram_states import RamStates
from janflask.engine.slot import Checkpoint, Slot
from janflask.engine.snapshots import Snapshot, Snapshots
from janflask.engine.state_index import WORTHWHILE
from tests.fakes.fake_context import EOG, FakeContext, expected_text

END = 0  # ends a message in these tests


def prompt(*messages: int) -> array[int]:
    """Messages of so many tokens each, their ends included."""
    return array("i", [token for length in messages for token in [*range(1, length), END]])


@pytest.mark.parametrize(
    ("common", "had"), [(0, 0), (9, 0), (10, 10), (29, 10), (30, 30), (49, 30), (50, 50), (60, 50)]
)
def test_what_can_be_had_of_a_state(common: int, had: int) -> None:
    assert reach([10, 30], 50, common) == had
    assert reach(None, 50, common) == common


def test_they_are_taken_behind_messages_and_in_front_of_the_last_token() -> None:
    tokens = prompt(100, 200) + array("i", range(1, 100))
    assert places(tokens, (0, len(tokens)), {END}, 0) == [100, 300, len(tokens) - 1]


def test_what_is_computed_already_gets_none() -> None:
    tokens = prompt(100, 200) + array("i", range(1, 100))
    assert places(tokens, (100, len(tokens)), {END}, 100) == [300, len(tokens) - 1]
    assert places(tokens, (len(tokens) - 1, len(tokens)), {END}, 300) == []


def test_what_was_generated_gets_none() -> None:
    """After a preemption the generated tokens are computed again like a prompt."""
    tokens = prompt(100) + array("i", range(1, 40))
    assert places(tokens + prompt(50), (0, len(tokens)), {END}, 0) == [100, len(tokens) - 1]


def test_they_are_not_close_to_one_another() -> None:
    tokens = prompt(*[10] * 20)
    taken = places(tokens, (0, len(tokens)), {END}, 0)
    assert all(after - before >= GAP for before, after in zip([0, *taken], taken, strict=False))


def test_of_old_ones_few_are_kept() -> None:
    lengths = list(range(50, 8000, 50))
    kept = thinned(lengths, 8000)
    assert kept[-RECENT:] == lengths[-RECENT:]
    assert kept == sorted(set(kept))
    assert len(kept) <= RECENT + 8
    assert kept[0] == 50


def compute(context: FakeContext, slot: Slot, tokens: array[int]) -> None:
    context.memory[slot.id].extend(tokens)
    slot.tokens.extend(tokens)


def test_checkpoints_push_out_states_and_then_the_oldest_of_whoever_rested_longest() -> None:
    context = FakeContext(slots=2, ctx_len=1024, can_trim=False)
    idle, busy = slots = [Slot(0), Slot(1)]
    busy.busy = True
    ram = RamStates(budget=1600, slots=slots)
    checkpoints = Checkpoints(context, slots, ram)
    state = Snapshot(array("i", range(200)), bytes(500), 100, can_trim=False)
    assert ram.put(state)
    for slot in slots:
        for _ in range(2):
            compute(context, slot, array("i", range(50)))
            checkpoints.take(slot)
    assert ram.held == 0
    assert [point.length for point in idle.checkpoints] == [50, 100]
    assert [point.length for point in busy.checkpoints] == [50, 100]
    compute(context, busy, array("i", range(50)))
    checkpoints.take(busy)
    assert [point.length for point in idle.checkpoints] == [100]
    assert [point.length for point in busy.checkpoints] == [50, 100, 150]


def test_a_checkpoint_that_is_larger_than_the_budget_is_not_taken() -> None:
    context = FakeContext(slots=1, can_trim=False)
    slots = [Slot(0)]
    checkpoints = Checkpoints(context, slots, RamStates(budget=10, slots=slots))
    compute(context, slots[0], array("i", range(50)))
    checkpoints.take(slots[0])
    assert slots[0].checkpoints == []


# --- states in memory -------------------------------------------------------------------------------------------------


def state(first: int, length: int = 300, size: int = 1000) -> Snapshot:
    return Snapshot(array("i", range(first, first + length)), bytes(size), 100)


def test_the_state_used_the_longest_ago_gives_way() -> None:
    ram = RamStates(budget=2500, slots=[])
    one, two, three = (state(1000 * number) for number in range(3))
    assert ram.put(one)
    assert ram.put(two)
    assert ram.best(one.tokens, 0) is one
    assert ram.put(three)
    assert ram.best(two.tokens, 0) is None
    assert ram.best(one.tokens, 0) is one
    assert ram.best(three.tokens, 0) is three


def test_what_goes_on_takes_the_place_of_what_it_came_from() -> None:
    ram = RamStates(budget=10_000, slots=[])
    assert ram.put(state(0))
    longer = state(0, 400)
    assert ram.put(longer)
    assert ram.held == 1000
    assert ram.best(state(0).tokens, 0) is longer


def test_one_over_the_budget_is_not_kept_and_costs_no_other() -> None:
    ram = RamStates(budget=2500, slots=[])
    one, another = state(0), state(1000)
    assert ram.put(one)
    assert ram.put(another)
    assert not ram.put(state(0, 400, size=2501))
    assert not ram.make_room(2501)
    assert ram.best(one.tokens, 0) is one
    assert ram.best(another.tokens, 0) is another


def test_a_state_counts_by_its_checkpoints() -> None:
    ram = RamStates(budget=10_000, slots=[])
    tokens = array("i", range(500))
    points = (Checkpoint(200, b"."), Checkpoint(300, b"."))
    held = Snapshot(tokens, bytes(9), 100, points, can_trim=False)
    assert ram.put(held)
    assert held.usable(tokens[:310] + array("i", [-1])) == 300
    assert ram.best(tokens[:310] + array("i", [-1]), 300 - WORTHWHILE) is held
    assert ram.best(tokens[:310] + array("i", [-1]), 301 - WORTHWHILE) is None
    assert ram.best(tokens[:199] + array("i", [-1]), 0) is None


def test_checkpoints_that_a_state_shares_with_a_slot_count_once() -> None:
    """A slot goes on with what was put away, or was brought back: both have the same checkpoints."""
    slots = [Slot(0), Slot(1)]
    ram = RamStates(budget=1000, slots=slots)
    points = [Checkpoint(200, bytes(300)), Checkpoint(250, bytes(300))]
    slots[0].checkpoints = slots[1].checkpoints = points
    held = Snapshot(array("i", range(300)), bytes(300), 100, tuple(points), can_trim=False)
    assert ram.put(held)
    assert ram.held == 300, "what forgetting it would bring"
    assert ram.make_room(100)
    assert ram.best(held.tokens, 0) is held
    slots[0].empty()
    slots[1].empty()
    assert ram.held == 900
    assert not ram.make_room(1001)
    assert ram.make_room(101)
    assert ram.held == 0


@pytest.mark.parametrize("state_bytes", [0, 1000, 1 << 20])
def test_checkpoints_from_the_disk_are_used_and_then_keep_within_the_budget(
    make_bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_bytes: int
) -> None:
    monkeypatch.setattr(FakeContext, "eog", {EOG, ord(" ")})
    text = b"".join(bytes(random.Random(number).choices(range(97, 123), k=60)) + b" " for number in range(6))

    def engine(budget: int):
        snapshots = Snapshots(tmp_path / "kv", "m", "f", 1 << 20, can_trim=False)
        return make_bench(slots=1, ctx_len=1024, can_trim=False, snapshots=snapshots, state_bytes=budget)

    first = engine(1 << 20)
    first.ask(text, max_tokens=5, conversation="a")
    first.loop.stop()
    first.drain()
    first.loop.run()
    edited = text[:-61] + b"something else"
    second = engine(state_bytes)
    sequence, sink = second.ask(edited, max_tokens=5, conversation="a")
    while not sink.reasons:
        second.loop.step()
    assert sink.texts.get(0, "") == expected_text(edited, 5)
    assert sequence.n_cached == len(text) - 61
    points = second.loop.scheduler.cache.slots[0].checkpoints
    assert sum(point.nbytes for point in points) <= state_bytes


# --- the loop ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("can_trim", [False, True])
@pytest.mark.parametrize("state_bytes", [3000, 1 << 20])
def test_random_edits_and_branches_over_few_slots_say_what_each_says_alone(
    make_bench, can_trim: bool, state_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake memory refuses to go back to what it does not hold. A blank ends a message here."""
    monkeypatch.setattr(FakeContext, "eog", {EOG, ord(" ")})
    restored = 0
    for seed in range(6):
        rng = random.Random(seed)
        bench = make_bench(slots=2, ctx_len=1024, can_trim=can_trim, state_bytes=state_bytes)
        texts = {name: bytes(rng.choices(range(97, 123), k=150)) + b" " for name in "abcd"}
        for _ in range(25):
            name = rng.choice("abcd")
            cut = rng.randrange(100, len(texts[name])) if rng.random() < 0.3 else len(texts[name])
            texts[name] = texts[name][:cut] + bytes(rng.choices(range(97, 123), k=40)) + b" "
            asked, sink = bench.ask(texts[name], max_tokens=6, conversation=name)
            if rng.random() < 0.2:
                bench.loop.step()
                bench.loop.cancel([asked])
                continue
            bench.drain()
            assert sink.texts.get(0, "") == expected_text(texts[name], 6)
            texts[name] = texts[name][:700] + sink.texts.get(0, "").encode()
        stats = bench.loop.stats()
        assert stats.states_refused == 0
        restored += stats.states_restored
        assert (
            sum(point.nbytes for slot in bench.loop.scheduler.cache.slots for point in slot.checkpoints) <= state_bytes
        )
    assert restored > 0
