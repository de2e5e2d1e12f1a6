"""Choosing knobs from figures, and remembering those; the figures themselves are made in tests/ext and tests/e2e."""

from __future__ import annotations

import json
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from janflask.engine import tuning
from janflask.engine.context import ContextOptions
from janflask.engine.figures import ROUNDS, Figure, Figures
from janflask.engine.knob_cache import Memory, recall, remember
from janflask.engine.sequence import Sequence
from janflask.engine.served import Served
from janflask.engine.slices import Slice
from janflask.engine.tuning import DEEP, KINDS, SHALLOW, Choices, best_slice, choices, choose, thread_choices
from janflask.models.engine_info import Knobs
from janflask.models.engine_settings import EngineSettings
from tests.fakes.fake_context import FakeSampler, FakeText
from tests.unit.engine.conftest import Collector

OPTIONS = ContextOptions(
    ctx_len=8192, n_seq=8, kv_cells=65536, flash_attn=False, kv_unified=False, cpu_threads=2, batch_size=256
)
GUESS = Knobs(flash_attn=False, kv_unified=False, slice_size=64, cpu_threads=2, source="guessed", sure=0.0)
FLASH = Choices(("flash_attn=0", "flash_attn=1"), ("2",), ("64",), deep=True)


def figure(off: float, on: float, *, depth: int = 64, spread: float = 1.1, rounds: int = ROUNDS) -> Figure:
    return Figure(depth, {"flash_attn=0": off, "flash_attn=1": on}, rounds, spread)


def figures(shallow: tuple[float, float, float], deep: tuple[float, float, float], spread: float = 1.1) -> Figures:
    """With flash attention on; without it everything takes 100 ms."""
    made = Figures()
    for place, depth, times in ((SHALLOW, 64, shallow), (DEEP, 1024, deep)):
        for kind, on in zip(KINDS, times, strict=True):
            made.add(f"{kind}, {place}", figure(100.0, on, depth=depth, spread=spread))
    return made


def chosen(known: Figures, open_: Choices = FLASH, served: Served | None = None, held: int = 0) -> Knobs:
    return choose(GUESS, open_, known, served or Served(8), "measured", held)


def used(depth: int, tokens: int, *, prompts: bool = False) -> Served:
    """An engine that has served so many tokens at that depth, to one client."""
    served = Served(8)
    sequence = Sequence(array("i"), 0, 0, None, FakeSampler(0), FakeText(()), Collector(), n_computed=depth)
    for _ in range(tokens // 32):
        served.note([Slice(sequence, 32)] if prompts else [Slice(sequence, 1)] * 32, 1)
    return served


def test_what_is_clearly_better_is_taken():
    assert chosen(figures((80.0, 80.0, 80.0), (80.0, 80.0, 80.0))).flash_attn


def test_what_is_a_little_better_is_not():
    assert not chosen(figures((95.0, 95.0, 95.0), (95.0, 95.0, 95.0))).flash_attn


def test_a_gain_in_short_contexts_does_not_pay_for_a_loss_in_deep_ones():
    assert not chosen(figures((80.0, 80.0, 80.0), (100.0, 300.0, 500.0))).flash_attn


# With flash attention: quick at the beginning, slow behind 1,024 tokens.
MIXED = (50.0, 50.0, 50.0), (100.0, 200.0, 200.0)


def test_who_serves_short_chats_gets_what_is_best_for_them():
    assert not chosen(figures(*MIXED)).flash_attn
    assert not chosen(figures(*MIXED), served=used(100, 1_000)).flash_attn, "too few to say anything"
    assert chosen(figures(*MIXED), served=used(100, 200_000)).flash_attn


def test_who_serves_long_ones_gets_what_is_best_there():
    assert not chosen(figures(*MIXED), FLASH.using("flash_attn=1"), used(12_000, 200_000)).flash_attn
    assert chosen(
        figures((50.0, 300.0, 300.0), (50.0, 300.0, 300.0)), served=used(900, 200_000, prompts=True)
    ).flash_attn


def test_what_is_used_stays_where_the_other_is_hardly_better():
    known = figures((95.0, 95.0, 95.0), (95.0, 95.0, 95.0))
    for using in FLASH.flash:
        for served in (None, used(100, 10**6)):
            assert chosen(known, FLASH.using(using), served).flash_attn == (using == "flash_attn=1")


def test_a_change_must_earn_the_states_that_it_makes_useless():
    known = figures((50.0, 50.0, 50.0), (50.0, 50.0, 50.0))
    served = used(100, 64_000, prompts=True)  # 50 s saved; a token is computed in 0.78 ms
    assert chosen(known, served=served, held=60_000).flash_attn
    assert not chosen(known, served=served, held=70_000).flash_attn


def test_what_was_served_long_ago_counts_less_and_less():
    served = used(12_000, 200_000)
    served.fade()
    before = served.tokens
    served.note([Slice(Sequence(array("i"), 0, 0, None, FakeSampler(0), FakeText(()), Collector()), 500_000)], 1)
    served.fade()
    assert served.tokens == pytest.approx((before + 500_000) / 2)
    assert served.new == 0


def test_a_token_of_a_full_house_costs_its_share_of_the_step():
    served = Served(8)
    sequence = Sequence(array("i"), 0, 0, None, FakeSampler(0), FakeText(()), Collector(), n_computed=100)
    for decoding, one, everybody in ((8, 0.0, 1.0), (1, 1.0, 0.0)):
        before = [row[2:] for row in served.rows()] or [(0.0, 0.0)]
        served.note([Slice(sequence, 1)] * decoding, decoding)
        ((_, _, *after),) = served.rows()
        assert [b - a for a, b in zip(before[0], after, strict=True)] == pytest.approx([one, everybody])


def test_a_slice_with_flash_attention_has_the_rows_of_a_tile():
    open_ = Choices(("flash_attn=0", "flash_attn=1"), ("2",), ("32", "64"), deep=True)
    known = figures((20.0, 20.0, 20.0), (20.0, 20.0, 20.0))
    for flash in open_.flash:
        known[tuning.under(tuning.SLICE_COST, flash)] = Figure(64, {"32": 10.0, "64": 60.0}, ROUNDS, 1.1)
    assert (chosen(known, open_).flash_attn, chosen(known, open_).slice_size) == (True, 64)
    large = replace(GUESS, slice_size=32)
    assert choose(large, open_, known, Served(8), "measured").slice_size == 32, "attention is a small part of its time"
    pinned = Choices(("flash_attn=1",), ("2",), ("32",), deep=True)
    assert choose(replace(GUESS, slice_size=32), pinned, known, Served(8), "measured").slice_size == 32


def test_the_less_sure_a_figure_is_the_clearer_it_has_to_be():
    assert not chosen(figures((80.0, 80.0, 80.0), (80.0, 80.0, 80.0), spread=2.0)).flash_attn
    assert chosen(figures((40.0, 40.0, 40.0), (40.0, 40.0, 40.0), spread=2.0)).flash_attn


@pytest.mark.parametrize("lacking", [f"{kind}, {place}" for kind in KINDS for place in (SHALLOW, DEEP)])
def test_half_of_the_figures_decide_nothing(lacking: str):
    known = figures((20.0, 20.0, 20.0), (20.0, 20.0, 20.0))
    del known[lacking]
    assert not chosen(known).flash_attn


def test_the_deep_ones_are_not_waited_for_where_there_is_no_room():
    known = figures((20.0, 20.0, 20.0), (20.0, 20.0, 20.0))
    shallow = Figures({name: known[name] for name in known if name.endswith(SHALLOW)})
    assert chosen(shallow, Choices(FLASH.flash, ("2",), ("64",), deep=False)).flash_attn


def test_knobs_tell_where_they_are_from_and_how_sure():
    guessed = chosen(Figures())
    assert (guessed.source, guessed.sure, guessed.measurements) == ("guessed", 0.0, {})
    known = figures((100.0, 100.0, 100.0), (100.0, 100.0, 100.0))
    known[f"{KINDS[0]}, {DEEP}"] = figure(100.0, 100.0, spread=3.0)
    measured = chosen(known)
    assert (measured.source, measured.sure) == ("measured", 0.83)
    assert measured.measurements[f"flash_attn=1: {KINDS[1]}, {SHALLOW}"] == 100.0
    assert choose(GUESS, FLASH, known, Served(8), "remembered").source == "remembered"
    pinned = replace(GUESS, source="pinned")
    assert choose(pinned, FLASH, known, Served(8), "remembered").source == "pinned"


def test_an_answer_of_a_full_house_costs_its_share_of_a_step():
    known = Figures()
    for kind, ms in zip(KINDS, (64.0, 2.0, 16.0), strict=True):
        known.add(f"{kind}, {SHALLOW}", figure(ms, ms))
    alone, of_eight, of_two = (256 + 128 * ms for ms in (2.0, 16.0 / 8, 16.0 / 2))
    assert tuning.cost("flash_attn=0", known, 8) == pytest.approx((alone * of_eight) ** 0.5)
    assert tuning.cost("flash_attn=0", known, 2) == pytest.approx((alone * of_two) ** 0.5)


def test_what_was_left_off_after_fewer_rounds_is_not_sure():
    assert figure(10.0, 20.0).is_sure
    assert not figure(10.0, 20.0, rounds=ROUNDS - 1).is_sure
    assert not figure(10.0, 2000.0, rounds=1).is_sure
    assert figure(10.0, 2000.0, rounds=2).is_sure
    assert not figure(10.0, 2000.0, rounds=2, spread=1.5).is_sure


def test_fewer_threads_only_if_they_are_clearly_quicker():
    open_ = Choices(("flash_attn=0",), ("4", "3", "2"), ("64",), deep=True)
    name = tuning.under(tuning.THREADS, "flash_attn=0")
    known = Figures({name: Figure(64, {"4": 20.0, "3": 19.0, "2": 19.5}, ROUNDS, 1.1)})
    assert chosen(known, open_).cpu_threads == 4
    known = Figures({name: Figure(64, {"4": 20.0, "3": 15.0, "2": 18.0}, ROUNDS, 1.1)})
    assert chosen(known, open_).cpu_threads == 3
    unsure = Figures({name: replace(known[name], spread=2.0)})
    assert chosen(unsure, open_).cpu_threads == 4


def test_slices_and_threads_are_chosen_by_what_the_flash_attention_that_is_used_costs():
    open_ = Choices(("flash_attn=0", "flash_attn=1"), ("4", "2"), ("32", "64"), deep=True)
    known = figures((20.0, 20.0, 20.0), (20.0, 20.0, 20.0))
    for flash, small, fewer in (("flash_attn=0", 10.0, 90.0), ("flash_attn=1", 60.0, 10.0)):
        known[tuning.under(tuning.SLICE_COST, flash)] = Figure(64, {"32": small, "64": 60.0}, ROUNDS, 1.1)
        known[tuning.under(tuning.THREADS, flash)] = Figure(64, {"4": 30.0, "2": fewer}, ROUNDS, 1.1)
    knobs = chosen(known, open_)
    assert (knobs.flash_attn, knobs.slice_size, knobs.cpu_threads) == (True, 64, 2)
    slow = figures((200.0, 200.0, 200.0), (200.0, 200.0, 200.0))
    knobs = chosen(Figures(known | slow), open_)
    assert (knobs.flash_attn, knobs.slice_size, knobs.cpu_threads) == (False, 32, 4)


def test_a_slice_is_as_large_as_a_short_step_allows():
    assert best_slice({32: 33.0, 64: 50.0, 128: 95.0, 256: 186.0}, step_ms=30.0) == 64
    assert best_slice({32: 33.0, 64: 50.0, 128: 95.0, 256: 186.0}, step_ms=50.0) == 128


def test_a_wasteful_slice_is_not_taken_however_short():
    # Flash attention on a CPU: 32 rows cost as much as 64.
    assert best_slice({32: 165.0, 64: 68.0, 128: 135.0}, step_ms=20.0) == 64
    # An AVX2 machine: a token of 32 costs a quarter more than one of 64.
    assert best_slice({32: 195.0, 64: 312.0, 128: 640.0, 256: 1318.0}, step_ms=90.0) == 64


def test_the_smallest_sound_slice_when_all_are_long():
    assert best_slice({32: 90.0, 64: 170.0, 128: 330.0}, step_ms=10.0) == 32


@pytest.mark.parametrize(("cores", "tried"), [(1, [1]), (2, [2]), (3, [3]), (4, [4, 3, 2]), (16, [16, 12, 8])])
def test_many_cores_are_tried_in_part(monkeypatch, cores, tried):
    monkeypatch.setattr(tuning, "usable_cores", lambda: cores)
    assert thread_choices(EngineSettings()) == tried
    assert thread_choices(EngineSettings(cpu_threads=5)) == [5]


def test_what_is_pinned_is_not_compared():
    pinned = EngineSettings(flash_attn=True, kv_unified=False, slice_size=48, cpu_threads=3)
    assert not choices(pinned, OPTIONS, GUESS).are_open
    assert choices(EngineSettings(cpu_threads=2), OPTIONS, GUESS).flash == ("flash_attn=0", "flash_attn=1")
    assert choices(EngineSettings(reproducible=True), OPTIONS, GUESS).flash == ("flash_attn=0",)


# --- remembering --------------------------------------------------------------------------------------------------


def test_a_better_figure_replaces_a_worse_one_and_no_other():
    known = Figures()
    known.add("x", figure(10.0, 20.0, spread=1.6))
    known.add("x", figure(30.0, 40.0, spread=1.9))
    assert known["x"].ms["flash_attn=0"] == 10.0
    known.add("x", figure(11.0, 21.0, spread=1.2))
    assert known["x"].ms["flash_attn=0"] == 11.0
    known.add("x", figure(9.0, 9.0, spread=1.0, rounds=1))
    assert known["x"].ms["flash_attn=0"] == 11.0, "one round says less than all"


def test_a_figure_of_other_choices_takes_the_place_of_a_surer_one():
    known = Figures({"x": figure(10.0, 20.0)})
    known.add("x", Figure(64, {"flash_attn=0": 11.0}, 1, 1.9))
    assert known["x"].ms == {"flash_attn=0": 11.0}


def test_one_round_decides_nothing():
    once = {name: replace(each, rounds=1) for name, each in figures((20.0, 20.0, 20.0), (20.0, 20.0, 20.0)).items()}
    knobs = chosen(Figures(once))
    assert (knobs.flash_attn, knobs.source) == (False, "guessed")


def test_figures_come_back_by_their_fingerprint(tmp_path: Path):
    file = tmp_path / "tuning" / "model.json"
    known = figures((80.0, 81.0, 82.0), (83.0, 84.0, 85.0), spread=5.0)
    served = used(100, 640)
    remember(file, "this machine", Memory(known, served, "flash_attn=1", {"flash_attn=1": 12.5}))
    remember(file, "another", Memory(Figures(), Served(8)))
    again = recall(file, "this machine", 8)
    assert (again.figures, again.flash, list(again.served.rows())) == (known, "flash_attn=1", list(served.rows()))
    assert again.proved == {"flash_attn=1": 12.5}
    assert recall(file, "another", 8).flash is None
    assert recall(file, "another", 8).proved == {}
    assert recall(file, "a third", 8).figures == {}
    assert [entry.name for entry in file.parent.iterdir()] == ["model.json"]


NO_FIGURES = [{"x": 1}, {"x": {"depth": 1, "ms": {}, "rounds": 1, "spread": 1}}, {"x": {"ms": {"a": "b"}}}, [], 1]
NOT_SERVED = [{}, {"tokens": 1, "at": {"1": [1.0]}}, {"tokens": "?", "at": {}}, {"tokens": 1, "at": {"1": [-1, 0, 0]}}]
ODD = [
    *({"figures": odd, "served": {"tokens": 0, "at": {}}, "flash": None} for odd in NO_FIGURES),
    *({"figures": {}, "served": odd, "flash": None} for odd in NOT_SERVED),
    {"figures": {}, "served": {"tokens": 0, "at": {}}},
    *(
        {"figures": {}, "served": {"tokens": 0, "at": {}}, "flash": None, "proved": odd}
        for odd in ({"a": "?"}, {"a": 0}, {"a": -1}, [1])
    ),
]


@pytest.mark.parametrize("content", ["", "{", "[]", *(json.dumps({"key": odd}) for odd in ODD)])
def test_a_broken_memory_means_measuring_again(tmp_path: Path, content: str, caplog):
    file = tmp_path / "model.json"
    file.write_text(content)
    assert recall(file, "key", 8).figures == {}
    assert "measuring again" in caplog.text
    known = Figures({"x": figure(1.0, 2.0)})
    remember(file, "key", Memory(known, Served(8)))
    assert recall(file, "key", 8).figures == known


def test_a_memory_that_cannot_be_written_is_only_a_warning(tmp_path: Path, caplog):
    (tmp_path / "tuning").write_text("a file where the folder should be")
    remember(tmp_path / "tuning" / "model.json", "key", Memory(Figures(), Served(8)))
    assert "cannot be remembered" in caplog.text
