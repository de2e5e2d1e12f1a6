"""How many rows have the bits of one: tried in pieces, on trials whose rows change from some number on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from janflask.engine.context import ContextOptions
from janflask.engine.exact_rows import ALL, FEW, ExactRows
from janflask.errors import EngineError

OPTIONS = ContextOptions(
    ctx_len=8192, n_seq=4, kv_cells=32768, flash_attn=False, kv_unified=False, cpu_threads=2, batch_size=256
)


@dataclass
class World:
    """Rows up to ``alike`` have the bits of one, and up to ``deep`` in a long context."""

    alike: int = 64
    deep: int = 64
    breaks: bool = False
    left_off: int = 0  # so many of the next decodes are
    open_now: int = 0
    options: ContextOptions = OPTIONS


class FakeTrial:
    def __init__(self, world: World, options: ContextOptions) -> None:
        self.world = world
        self.is_deep = False
        assert options.kv_unified, "one sequence's rows see the cells of all"
        world.open_now += 1

    def fill(self, depth: int, slots: int | None = None) -> Iterator[None]:
        self.is_deep = slots != 1  # otherwise only one sequence holds any
        yield

    def rows(self, place: int, count: int) -> list[NDArray[np.float32]] | None:
        world = self.world
        if world.breaks:
            raise EngineError("llama_decode gave -3")
        if world.left_off:
            world.left_off -= 1
            return None
        other = count > (world.deep if self.is_deep else world.alike)
        return [np.array([number, other], np.float32) for number in range(place, place + count)]

    def close(self) -> None:
        self.world.open_now -= 1


def exact_rows(world: World, counts: tuple[int, ...] = FEW) -> ExactRows:
    return ExactRows(lambda: world.options, lambda options: FakeTrial(world, options), counts)  # type: ignore[arg-type]


def work(exact: ExactRows) -> int:
    while exact.due(0.0) is not None:
        exact.piece()
    return exact.most()


@pytest.mark.parametrize(
    ("alike", "deep", "most"), [(64, 64, 23), (22, 64, 7), (64, 22, 7), (6, 64, 3), (64, 3, 3), (2, 64, 1), (64, 2, 1)]
)
def test_the_most_that_holds_in_short_and_in_long_contexts(alike: int, deep: int, most: int) -> None:
    world = World(alike, deep)
    exact = exact_rows(world)
    assert exact.most() == 1
    assert work(exact) == most
    assert world.open_now == 0


def test_a_reproducible_model_may_have_more() -> None:
    assert work(exact_rows(World(), ALL)) == ALL[0]


def test_what_was_left_off_is_done_again() -> None:
    assert work(exact_rows(World(alike=7, left_off=5))) == 7


def test_where_it_cannot_be_tried_one_is(caplog: pytest.LogCaptureFixture) -> None:
    world = World(breaks=True)
    assert work(exact_rows(world)) == 1
    assert "llama_decode gave -3" in caplog.text
    assert world.open_now == 0


def test_other_options_in_the_middle_are_tried_for_themselves() -> None:
    world = World(alike=7)
    exact = exact_rows(world)
    for _ in range(3):
        exact.piece()
    world.options = replace(OPTIONS, flash_attn=True)
    assert work(exact) == 7
    world.options = OPTIONS
    assert (exact.due(0.0), exact.most()) == (None, 7)


def test_sizes_and_threads_change_no_bit() -> None:
    world = World()
    exact = exact_rows(world)
    work(exact)
    world.options = replace(OPTIONS, ctx_len=512, n_seq=2, kv_cells=1024, cpu_threads=1)
    assert exact.due(0.0) is None
