"""What an engine at rest gives back, and when: only what can be brought back, later also what has to be computed."""

from __future__ import annotations

import threading
from array import array
from pathlib import Path
from typing import Any

import pytest

from janflask.engine.giving_back import GiveBack
from janflask.engine.snapshots import Snapshot, Snapshots
from tests.unit.engine.conftest import Bench

MIB = 1 << 20
TALK = bytes(range(1, 201)) * 2


class FakePages:
    """Every token of a slot is a MiB; what shares its memory counts as slot 0's."""

    def __init__(self, bench: Bench, *, is_by_slot: bool) -> None:
        self.is_by_slot = is_by_slot
        self.n_tensors = 3
        self.touched = [0] * len(bench.context.memory)
        self.total_bytes = 1000 * MIB
        self.tensors: list[int] = []
        self.bench = bench

    def used(self) -> None:
        """Pages stay once they are touched."""
        for slot, cells in enumerate(self.bench.context.memory):
            self.touched[slot] = max(self.touched[slot], len(cells) * MIB)

    def resident(self, slot: int | None = None) -> int:
        return sum(self.touched) if slot is None else self.touched[slot]

    def give_back(self, slot: int, most: int | None = None) -> int:
        assert most is not None
        assert not self.bench.context.memory[slot], "it holds something"
        given, self.touched[slot] = self.touched[slot], 0
        return given

    def give_back_tensor(self, number: int) -> None:
        assert not any(self.bench.context.memory), "somebody holds something"
        self.tensors.append(number)


class Memory:
    """A fake context with pages."""

    def __init__(self, bench: Bench, pages: FakePages) -> None:
        self.context = bench.context
        self.pages = pages
        self.cleared = 0

    def trim(self, slot: int, length: int) -> bool:
        return self.context.trim(slot, length)

    def clear(self) -> None:
        assert not any(self.context.memory)
        self.cleared += 1
        self.pages.touched = [0] * len(self.pages.touched)


class House:
    """A loop with the chore, and a rest that takes no time."""

    def __init__(self, bench: Bench, *, is_by_slot: bool = True) -> None:
        self.bench = bench
        self.pages = FakePages(bench, is_by_slot=is_by_slot)
        self.memory = Memory(bench, self.pages)
        self.chore = GiveBack(self.memory, bench.loop.scheduler.cache, bench.loop.conversations, least_bytes=20 * MIB)

    def ask(self, prompt: bytes, *, lasting: bool = True) -> str:
        sequence, sink = self.bench.ask(prompt, max_tokens=5, is_lasting=lasting)
        while sequence.sink.reasons == {} and not sink.errors:
            self.bench.loop.step()
        self.pages.used()
        return sink.texts.get(0, "")

    def rest(self, seconds: float, most: int = 50) -> None:
        """All that is due within so many seconds of one rest, which begins anew."""
        self.chore.due(0.0)
        for _ in range(most):
            wait = self.chore.due(seconds)
            if wait is None or wait > 0:
                return
            self.chore.piece()
        raise AssertionError("the chore does not come to an end")

    @property
    def held(self) -> list[int]:
        return [len(cells) for cells in self.bench.context.memory]


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "kv", "m", "mark", 1 << 30)


@pytest.fixture
def house(make_bench, snapshots: Snapshots) -> House:
    return House(make_bench(slots=2, ctx_len=600, chunk=256, snapshots=snapshots))


def keep(house: House, slot: int) -> None:
    """On the disk, and there for certain."""
    conversations = house.bench.loop.conversations
    assert conversations is not None
    conversations.keep(house.bench.loop.scheduler.cache.slots[slot])
    for writing in list(conversations._pending):
        writing.result()


def test_what_is_on_the_disk_goes_after_a_while_and_comes_back(house: House) -> None:
    said = house.ask(TALK)
    keep(house, 0)
    house.rest(59.0)
    assert house.held[0] >= len(TALK), "not yet"
    house.rest(60.0)
    assert (house.held, house.pages.resident()) == ([0, 0], 0)

    again = TALK + said.encode() + b"and then?"
    house.ask(again)
    assert house.bench.loop.conversations.restored == 1
    assert house.held[0] > len(again)


def test_what_is_nowhere_else_stays_for_longer(house: House) -> None:
    house.ask(TALK, lasting=False)
    house.rest(599.0)
    assert house.held[0] >= len(TALK)
    house.rest(600.0)
    assert (house.held, house.pages.resident()) == ([0, 0], 0)


@pytest.mark.parametrize(("size", "stays"), [(30 * MIB, 0), (10 * MIB, 10 * MIB)])
def test_states_in_memory_go_with_the_long_rest_though_the_slots_are_empty(
    make_bench, snapshots: Snapshots, size: int, stays: int
) -> None:
    house = House(make_bench(slots=2, ctx_len=600, chunk=256, snapshots=snapshots, state_bytes=100 * MIB))
    conversations = house.bench.loop.conversations
    assert conversations is not None
    house.ask(TALK)
    keep(house, 0)
    assert conversations.ram.put(Snapshot(array("i", range(200)), bytes(size), 200))
    house.rest(599.0)
    assert (house.pages.resident(), conversations.ram.held) == (0, size)
    house.rest(600.0)
    assert conversations.ram.held == stays, "a few megabytes are not worth it"


def test_only_what_can_go_goes(house: House) -> None:
    house.ask(TALK)
    house.ask(bytes(reversed(TALK)), lasting=False)
    keep(house, 0)
    house.rest(60.0)
    assert house.held[0] == 0
    assert house.held[1] >= len(TALK)
    assert house.pages.touched[0] == 0 < house.pages.touched[1]


def test_what_an_emptied_slot_left_goes_too(house: House) -> None:
    house.ask(TALK, lasting=False)
    house.bench.context.trim(0, 0)
    house.bench.loop.scheduler.cache.clear(0)
    assert house.pages.resident() > 0
    house.rest(60.0)
    assert house.pages.resident() == 0


def test_a_few_megabytes_are_not_worth_a_slower_turn(house: House) -> None:
    house.ask(b"short")
    house.rest(1000.0)
    assert house.held[0] > 0


def test_where_slots_share_their_memory_all_go_or_none(make_bench, snapshots: Snapshots) -> None:
    house = House(make_bench(slots=2, ctx_len=600, kv_cells=1200, chunk=256, snapshots=snapshots), is_by_slot=False)
    house.ask(TALK)
    house.ask(bytes(reversed(TALK)))
    keep(house, 0)
    house.rest(60.0)
    assert min(house.held) >= len(TALK), "the other one is nowhere else"
    assert house.pages.tensors == []
    keep(house, 1)
    house.rest(60.0)
    assert house.held == [0, 0]
    assert (house.pages.tensors, house.memory.cleared) == ([0, 1, 2], 1)


@pytest.fixture(params=[True, False], ids=["by slot", "by tensor"])
def many(request: pytest.FixtureRequest, make_bench, snapshots: Snapshots) -> House:
    """Four slots that hold what is nowhere else and is to outlive them: more than wait for the disk at once."""
    cells = None if request.param else 2400
    house = House(
        make_bench(slots=4, ctx_len=600, kv_cells=cells, chunk=256, snapshots=snapshots), is_by_slot=request.param
    )
    for number in range(4):
        house.ask(bytes([65 + number]) + TALK)
    assert min(house.held) > len(TALK)
    return house


def rest_long(house: House) -> float:
    """All that a long rest brings, however long the disk takes; how long that was."""
    conversations = house.bench.loop.conversations
    assert conversations is not None
    house.chore.due(0.0)
    rested = 600.0
    while house.chore.due(rested) is not None:
        house.chore.piece()
        for writing in list(conversations._pending):
            writing.result()
        rested += 10.0
    return rested


def test_what_waits_for_a_slow_disk_is_not_given_up(many: House, snapshots: Snapshots, monkeypatch) -> None:
    go_on = threading.Event()
    save = snapshots.save

    def slow(*given: Any) -> bool:
        assert go_on.wait(20.0)
        return save(*given)

    monkeypatch.setattr(snapshots, "save", slow)
    for rested in (600.0, 601.0, 700.0):
        if many.chore.due(rested) == 0:
            many.chore.piece()
    assert min(many.held) > len(TALK)
    go_on.set()
    rest_long(many)
    assert (many.held, many.pages.resident()) == ([0] * 4, 0)
    for number in range(4):
        prompt = array("i", [65 + number, *TALK, 1])
        assert snapshots.find(prompt, 0) is not None


def test_what_a_full_disk_does_not_take_stays(many: House, snapshots: Snapshots, monkeypatch) -> None:
    def full(*_: Any) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots, "_write", full)
    assert rest_long(many) < 700.0
    assert min(many.held) > len(TALK)
    monkeypatch.undo()
    rest_long(many)
    assert many.held == [0] * 4, "another rest, and there was room again"
    assert len(snapshots.index._tokens) == 4


def test_a_request_in_between_stops_it(make_bench, snapshots: Snapshots) -> None:
    """A tensor that somebody uses again is not touched: ``FakePages`` would complain."""
    house = House(make_bench(slots=2, ctx_len=600, kv_cells=1200, chunk=256, snapshots=snapshots), is_by_slot=False)
    house.ask(TALK)
    keep(house, 0)
    house.chore.due(0.0)
    assert house.chore.due(60.0) == 0.0
    house.chore.piece()
    assert (house.held, house.pages.tensors) == ([0, 0], [0])
    house.ask(bytes(reversed(TALK)), lasting=False)
    house.rest(60.0)
    assert house.pages.tensors == [0]
    house.rest(600.0)
    assert house.pages.tensors == [0, 0, 1, 2]


def test_nothing_is_due_where_pages_cannot_be_given_back(house: House) -> None:
    house.pages.total_bytes = 0
    assert house.chore.due(1e6) is None


def test_a_busy_slot_is_left_alone(house: House) -> None:
    house.ask(TALK, lasting=False)
    slot = house.bench.loop.scheduler.cache.slots[0]
    slot.busy = True
    house.rest(600.0)
    assert slot.tokens[: len(TALK)].tolist() == list(TALK)
