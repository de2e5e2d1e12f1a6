"""The chore of measuring: in pieces, left off when somebody comes, gone on with later; on trials that tell times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from janflask.engine.context import ContextOptions
from janflask.engine.figures import Figure, Figures
from janflask.engine.measuring import AGAIN, DISTURBED, PASSES, REST_BEFORE, Measuring
from janflask.engine.served import Served
from janflask.engine.trial import SpoiltError
from janflask.engine.tuning import Choices, best_flash, wanted
from janflask.errors import EngineError

OPTIONS = ContextOptions(
    ctx_len=8192, n_seq=4, kv_cells=32768, flash_attn=False, kv_unified=False, cpu_threads=2, batch_size=256
)
CHOICES = Choices(("flash_attn=0", "flash_attn=1"), ("2", "1"), ("32", "64"), deep=True)
WANTED = set(wanted(CHOICES, "flash_attn=0"))
OTHERS = {"threads, flash_attn=0", "slices, flash_attn=0"}


@dataclass
class World:
    """Trials as they are opened and closed, and what disturbs them."""

    open_now: int = 0
    most_open: int = 0
    left_off: int = 0  # so many of the next steps are
    spoils: bool = False
    breaks: bool = False
    slowness: float = 1.0
    flash: float = 1.5  # with flash attention on a step takes so many times as long
    noise: float = 1.0  # every second step takes so many times as long
    steps: int = 0
    depths: list[int] = field(default_factory=list)
    remembered: list[Figures] = field(default_factory=list)
    settled: int = 0
    refuses: int = 0  # so often to settle
    now: float = 0.0
    figures: Figures = field(default_factory=Figures)

    def measuring(
        self, choices: Choices = CHOICES, options: ContextOptions = OPTIONS, cell_bytes: float = 0.0
    ) -> Measuring:
        return Measuring(
            options,
            lambda made_with: FakeTrial(self, made_with),
            choices,
            cell_bytes,
            self.figures,
            lambda: best_flash(choices, self.figures, Served(options.n_seq)),
            found=lambda: self.remembered.append(Figures(self.figures)),
            settled=self.settle,
            clock=lambda: self.now,
        )

    def settle(self) -> bool:
        self.settled += 1
        self.refuses -= 1
        return self.refuses < 0


class FakeTrial:
    def __init__(self, world: World, options: ContextOptions) -> None:
        self.world = world
        self.options = options
        self.threads = options.cpu_threads
        self.depth = 0
        world.open_now += 1
        world.most_open = max(world.most_open, world.open_now)

    def step(self, parts: list[tuple[int, int]]) -> float | None:
        world = self.world
        world.steps += 1
        if world.breaks:
            raise EngineError("llama_decode gave -3")
        if world.left_off:
            world.left_off -= 1
            if world.spoils:
                raise SpoiltError("in the middle")
            return None
        tokens = sum(count for _, count in parts)
        ms = world.slowness * (10 + tokens) * (world.flash if self.options.flash_attn else 1.0) / self.threads
        return ms * (world.noise if world.steps % 4 > 1 else 1.0)

    def fill(self, depth: int) -> Iterator[None]:
        for _ in range(0, depth, 64):
            yield
        self.world.depths.append(depth)

    def set_threads(self, count: int) -> None:
        self.threads = count

    def close(self) -> None:
        self.world.open_now -= 1


def work(measuring: Measuring, pieces: int = 100_000) -> int:
    """Pieces done until nothing is due now."""
    for done in range(pieces):
        if measuring.due(REST_BEFORE) != 0.0:
            return done
        measuring.piece()
    return pieces


def test_everything_is_measured_and_then_nothing_is_due():
    world = World()
    measuring = world.measuring()
    assert measuring.due(0.0) == REST_BEFORE
    assert measuring.due(REST_BEFORE - 2) == 2
    work(measuring)
    assert measuring.due(1e6) is None
    assert set(world.figures) == WANTED
    assert all(figure.is_sure for figure in world.figures.values())
    assert world.figures["decode all, shallow"].ms == {"flash_attn=0": 7.0, "flash_attn=1": 10.5}
    assert world.figures["threads, flash_attn=0"].ms == {"2": 7.0, "1": 14.0}
    assert world.figures["slices, flash_attn=0"].ms == {"32": 21.0, "64": 37.0}
    assert (world.open_now, world.most_open) == (0, 2), "what is compared is open together, and nothing afterwards"
    assert world.settled == 3, "the knobs are looked at when what belongs together is there"


def test_with_flash_attention_pinned_the_rest_is_measured():
    world = World()
    choices = Choices(("flash_attn=0",), ("2", "1"), ("32", "64"), deep=True)
    measuring = world.measuring(choices)
    work(measuring)
    assert set(world.figures) == set(wanted(choices, "flash_attn=0")) == {"decode all, shallow", *OTHERS}
    assert measuring.due(1e6) is None


def test_each_piece_is_a_decode_at_most():
    world = World()
    measuring = world.measuring()
    before = 0
    while measuring.due(REST_BEFORE) == 0.0:
        measuring.piece()
        assert world.steps - before <= 1
        before = world.steps


@pytest.mark.parametrize("pieces", [1, 5, 12, 40, 60])
def test_a_decode_that_was_left_off_is_repeated(pieces: int):
    world = World()
    measuring = world.measuring()
    work(measuring, pieces)
    world.left_off = 3
    work(measuring)
    undisturbed = World()
    work(undisturbed.measuring())
    assert world.figures == undisturbed.figures


def test_a_trial_that_cannot_go_back_is_made_anew():
    world = World(spoils=True)
    measuring = world.measuring()
    work(measuring, 20)
    world.left_off = 1
    work(measuring)
    assert set(world.figures) == WANTED
    assert world.open_now == 0


def test_others_get_the_memory_back_when_they_work_for_long():
    world = World()
    measuring = world.measuring()
    work(measuring, 20)
    assert world.open_now == 2
    measuring.disturbed(DISTURBED / 2)
    assert world.open_now == 2
    measuring.disturbed(DISTURBED)
    assert world.open_now == 0
    known = Figures(world.figures)
    work(measuring)
    assert set(world.figures) == WANTED
    assert all(world.figures[name] == known[name] for name in known if known[name].is_sure), "it goes on where it was"


def test_short_work_of_others_in_between_costs_nothing():
    world = World()
    measuring = world.measuring()
    for _ in range(5):
        work(measuring, 3)
        measuring.disturbed(DISTURBED / 2)
    assert world.open_now == 2


def test_an_engine_that_ended_half_way_is_followed_by_one_that_goes_on():
    world = World()
    work(world.measuring(), 35)
    known = world.remembered[-1]
    assert 0 < len(known) < len(WANTED)
    after = World(figures=Figures(known))
    work(after.measuring())
    whole = World()
    work(whole.measuring())
    assert set(after.figures) == WANTED
    assert after.steps < whole.steps


def test_on_a_busy_machine_there_are_figures_and_they_are_made_better_later():
    world = World(noise=4.0)
    measuring = world.measuring()
    work(measuring)
    assert set(world.figures) == WANTED
    assert not all(figure.is_sure for figure in world.figures.values())
    assert measuring.due(1e6) == AGAIN
    world.now += AGAIN
    work(measuring)
    assert measuring.due(1e6) == 2 * AGAIN, "the more often in vain, the later"
    world.noise = 1.0
    world.now += 2 * AGAIN
    work(measuring)
    assert all(figure.is_sure for figure in world.figures.values())
    assert measuring.due(1e6) is None


def test_what_takes_long_is_sure_after_fewer_rounds():
    """A large model is not measured again, and again at each start, because its steps are long."""
    world = World(slowness=1000.0)
    measuring = world.measuring()
    work(measuring)
    assert {figure.rounds for figure in world.figures.values()} == {2}
    assert measuring.due(1e6) is None
    assert world.measuring().due(1e6) is None, "nor by the engine of the next start"


def test_slices_are_measured_anew_for_another_choice_of_flash_attention():
    """With it on 32 rows may cost as much as 64: what was seen without it tells nothing of that."""
    world = World()
    work(world.measuring())
    pinned = Choices(("flash_attn=1",), ("2", "1"), ("32", "64"), deep=True)
    measuring = world.measuring(pinned, replace(OPTIONS, flash_attn=True))
    assert measuring.due(REST_BEFORE) == 0.0
    work(measuring)
    assert world.figures["slices, flash_attn=0"].ms == {"32": 21.0, "64": 37.0}
    assert world.figures["slices, flash_attn=1"].ms == {"32": 31.5, "64": 55.5}
    assert world.figures["threads, flash_attn=1"].ms == {"2": 10.5, "1": 21.0}


def test_slices_are_measured_for_the_flash_attention_that_will_be_used():
    world = World(flash=0.5)
    measuring = world.measuring()
    work(measuring)
    assert set(world.figures) == set(wanted(CHOICES, "flash_attn=1"))
    assert world.figures["slices, flash_attn=1"].ms == {"32": 10.5, "64": 18.5}
    assert measuring.due(1e6) is None


def test_a_machine_that_never_rests_is_left_alone_in_the_end():
    world = World(noise=4.0)
    measuring = world.measuring()
    for number in range(PASSES):
        assert measuring.due(1e6) == 0.0
        work(measuring)
        world.now += AGAIN * 2**number
    assert measuring.due(1e6) is None


def test_what_cannot_be_measured_is_no_harm(caplog: pytest.LogCaptureFixture):
    world = World(breaks=True)
    measuring = world.measuring()
    work(measuring)
    assert measuring.due(1e6) is None
    assert "llama_decode gave -3" in caplog.text
    assert world.open_now == 0


def test_knobs_wait_for_a_moment_in_which_nobody_does():
    world = World(refuses=3)
    measuring = world.measuring()
    work(measuring)
    assert world.settled == 6
    assert measuring.due(1e6) is None


def test_the_deep_context_is_as_deep_as_memory_and_time_allow():
    world = World()
    work(world.measuring())
    assert set(world.depths) == {64, 1024}
    heavy = World()
    work(heavy.measuring(cell_bytes=128e3))
    assert set(heavy.depths) == {64, 256}
    slow = World(slowness=10.0)
    work(slow.measuring())
    assert set(slow.depths) == {64, 512}
    small = World()
    work(small.measuring(options=replace(OPTIONS, ctx_len=1024, kv_cells=4096)))
    assert set(small.depths) == {64, 256}, "the least that is deep"


def test_a_figure_is_the_best_of_its_rounds():
    figure = Figure.of(64, {"a": [3.0, 2.0, 9.0], "b": [5.0, 5.0, 5.0]})
    assert figure.ms == {"a": 2.0, "b": 5.0}
    assert (figure.rounds, figure.spread) == (3, 1.5)
