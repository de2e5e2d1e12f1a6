"""Measuring on real llama.cpp contexts, beside requests; and an engine whose knobs change while it runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from llama_cpp import llama_cpp as lib

from janflask.engine import builder, measuring, tuning
from janflask.engine.builder import Engine, build
from janflask.engine.context import LlamaContext
from janflask.engine.fingerprint import fingerprint
from janflask.engine.knob_cache import recall
from janflask.engine.loop import Loop
from janflask.engine.model import Model
from janflask.engine.snapshots import Snapshots
from janflask.engine.trial import SpoiltError, Trial
from janflask.engine.tuning import DEEP, KINDS, SHALLOW, wanted
from janflask.engine.wake import Wake
from janflask.errors import InvalidRequestError, ModelLoadError
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.engine_info import Knobs
from janflask.models.engine_settings import EngineSettings
from tests.ext.conftest import Load
from tests.ext.real_loop import Engine as RealEngine
from tests.ext.real_loop import options
from tests.models.tiny import TinyModels
from tests.models.tiny_memories import write_recurrent, write_windowed

STORY = "the cat sat on the mat and the dog ran on the hill and " * 4
OTHER = "hello world, red and blue and green are what they are: " * 4
SIZES = {"ctx_len": 1024, "n_parallel": 2, "cpu_threads": 1}  # several threads would wait for one another


@pytest.fixture(params=["plain", "window", "recurrent"])
def any_model(load: Load, tiny_models: TinyModels, tmp_path: Path, request: pytest.FixtureRequest) -> Model:
    writers = {"window": write_windowed, "recurrent": write_recurrent}
    write = writers.get(request.param)
    return load(tiny_models.chat if write is None else write(tmp_path / "m.gguf"))


def spec(model_path: Path, folder: Path, **settings: object) -> EngineSpec:
    return EngineSpec(
        model_id="m",
        model_path=str(model_path),
        socket_path="none",
        cache_dir=str(folder),
        settings=EngineSettings(**SIZES, **settings),
        snapshot_bytes=1 << 20,
    )


class Measured:
    """An engine of ``build`` whose chore the test does itself."""

    def __init__(self, model: Model, asked: EngineSpec) -> None:
        self.told: list[Knobs] = []
        engine: Engine = build(model, asked, lambda stage, part: None, self.told.append)
        assert engine.loop is not None
        self.loop: Loop = engine.loop
        self.knobs = engine.info.knobs
        self.chore = next(chore for chore in self.loop.chores if isinstance(chore, measuring.Measuring))

    def work(self, pieces: int = 10_000) -> int:
        """Pieces done until there is nothing to do for the moment."""
        for done in range(pieces):
            if self.chore.due(measuring.REST_BEFORE) != 0.0:
                return done
            self.chore.piece()
        return pieces


# --- a trial ------------------------------------------------------------------------------------------------------


@pytest.fixture
def wake() -> Wake:
    return Wake()


@pytest.fixture
def trial(any_model: Model, wake: Wake) -> Iterator[Trial]:
    made = Trial(any_model, options(n_seq=2, kv_cells=1024), wake.address)
    yield made
    made.close()


def test_a_trial_goes_back_to_what_filled_it(trial: Trial) -> None:
    for _ in trial.fill(100):
        pass
    for parts in ([(0, 1)], [(0, 1), (1, 1)], [(0, 64)]) * 12:
        took = trial.step(parts)
        assert took is not None
        assert took > 0
    if trial.context.model.can_trim:
        assert trial.context.positions(0) == trial.context.positions(1) == (0, 99)


def test_a_decode_is_left_off_while_somebody_waits(trial: Trial, wake: Wake, caplog: pytest.LogCaptureFixture) -> None:
    wake.set()
    if trial.context.model.can_trim:
        assert trial.step([(0, 64)]) is None
        assert trial.context.positions(0) == (-1, -1)
    else:
        with pytest.raises(SpoiltError):
            trial.step([(0, 64)])
    wake.clear()
    assert trial.step([(1, 64)]) is not None
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], "llama.cpp calls it an error"


def test_what_fills_a_trial_is_repeated_where_it_was_left_off(trial: Trial, wake: Wake) -> None:
    filling = trial.fill(100)
    next(filling)
    wake.set()
    if not trial.context.model.can_trim:
        with pytest.raises(SpoiltError):
            next(filling)
        return
    next(filling)
    assert trial.context.positions(0) == (0, 63)
    wake.clear()
    for _ in filling:
        pass
    assert trial.context.positions(0) == trial.context.positions(1) == (0, 99)


def test_a_context_that_serves_is_never_left_off(any_model: Model, wake: Wake) -> None:
    engine = RealEngine(any_model)
    wake.set()
    assert engine.answer(STORY, 8)[1] in ("length", "stop")


# --- the chore ----------------------------------------------------------------------------------------------------


def test_everything_is_measured_and_remembered(any_model: Model, tmp_path: Path) -> None:
    asked = spec(tmp_path / "m.gguf", tmp_path)
    first = Measured(any_model, asked)
    assert first.knobs.source == "guessed"
    first.work()
    flash = f"flash_attn={int(first.told[-1].flash_attn)}"
    names = {f"{kind}, {place}" for kind in KINDS for place in (SHALLOW, DEEP)} | {f"slices, {flash}"}
    assert first.told[-1].source == "measured"
    assert first.told[-1].slice_size in (32, 64, 128, 256)
    kept = recall(tmp_path / "tuning" / "m.json", next(iter(_entries(tmp_path))), SIZES["n_parallel"]).figures
    assert names <= kept.keys()
    assert all(ms > 0 for figure in kept.values() for ms in figure.ms.values())
    again = build(any_model, asked, lambda stage, part: None)
    assert again.info.knobs.source == "remembered"
    assert again.info.knobs.measurements == first.told[-1].measurements


def test_what_was_proved_once_is_not_proved_again(
    load: Load, tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start is shorter by it; on a GPU, and with other settings, it is proved each time."""
    proofs: list[LlamaContext] = []

    def proved(context: LlamaContext) -> None:
        proofs.append(context)
        tuning.prove(context)

    monkeypatch.setattr(builder, "prove", proved)
    model, asked = load(tiny_models.chat), spec(tiny_models.chat, tmp_path)
    first, second = (Measured(model, asked).loop for _ in range(2))
    assert len(proofs) == 1
    assert 0 < first.costs.first_ms == second.costs.first_ms
    flash = not first.context.options.flash_attn
    for number, other in enumerate(({"n_parallel": 3}, {"flash_attn": flash}, {"reproducible": True}), 2):
        changed = replace(asked, settings=replace(asked.settings, **other))
        for _ in range(2):
            build(model, changed, lambda stage, part: None)
        assert len(proofs) == number
    model.on_gpu = True
    build(model, asked, lambda stage, part: None)
    assert len(proofs) == 5


def test_an_engine_that_ends_half_way_has_remembered_what_it_found(any_model: Model, tmp_path: Path) -> None:
    asked = spec(tmp_path / "m.gguf", tmp_path)
    Measured(any_model, asked).work(20)
    (mark,) = _entries(tmp_path)
    kept = recall(tmp_path / "tuning" / "m.json", mark, SIZES["n_parallel"]).figures
    assert kept
    second = Measured(any_model, asked)
    assert 0 < len(kept) < len(_wanted(second))
    second.work()
    assert _wanted(second) == set(recall(tmp_path / "tuning" / "m.json", mark, SIZES["n_parallel"]).figures)


def test_a_request_in_the_middle_is_answered_as_ever(
    load: Load, tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(tiny_models.chat)
    asked = spec(tiny_models.chat, tmp_path, flash_attn=False)
    served = Measured(model, asked)
    engine = RealEngine(model)
    expected = engine.answer(STORY, 12)
    engine.loop = served.loop  # asked through the same helper
    for pieces in (1, 3, 10, 20):
        served.work(pieces)
        assert engine.answer(STORY, 12) == expected
        served.loop._wake.clear()  # as its own thread does when it rests
    served.work()
    assert served.told[-1].source == "measured"
    assert engine.answer(STORY, 12) == expected


def test_answers_that_take_long_get_the_memory_of_the_trials(
    load: Load, tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(tiny_models.chat)
    served = Measured(model, spec(tiny_models.chat, tmp_path))
    engine = RealEngine(model)
    engine.loop = served.loop
    served.work(5)
    engine.answer(STORY, 2)
    served.loop._wake.clear()
    assert served.chore._work is not None
    monkeypatch.setattr(measuring, "DISTURBED", 0.0)
    engine.answer(STORY, 2)
    assert served.chore._work is None


@pytest.mark.parametrize(
    ("settings", "most"), [({}, 16), ({"drafts": 5}, 5), ({"reproducible": True}, 16), ({"drafts": 0}, 0)], ids=str
)
def test_how_much_is_guessed_ahead(
    load: Load, tiny_models: TinyModels, tmp_path: Path, settings: dict[str, object], most: int
) -> None:
    served = Measured(load(tiny_models.chat), spec(tiny_models.chat, tmp_path, **settings))
    assert served.loop.drafting._most == most


def test_nothing_is_measured_in_contexts_smaller_than_a_trial(
    load: Load, tiny_models: TinyModels, tmp_path: Path
) -> None:
    asked = spec(tiny_models.chat, tmp_path)
    small = replace(asked.settings, ctx_len=256)
    engine = build(load(tiny_models.chat), replace(asked, settings=small), lambda stage, part: None)
    assert engine.loop is not None
    assert not any(isinstance(chore, measuring.Measuring) for chore in engine.loop.chores)


@pytest.mark.parametrize("settings", [{"flash_attn": True, "slice_size": 64}], ids=str)
def test_nothing_is_measured_where_all_is_pinned(
    load: Load, tiny_models: TinyModels, tmp_path: Path, settings: dict[str, object]
) -> None:
    engine = build(
        load(tiny_models.chat), spec(tiny_models.chat, tmp_path, **settings, kv_unified=True), lambda stage, part: None
    )
    assert engine.loop is not None
    assert not any(isinstance(chore, measuring.Measuring) for chore in engine.loop.chores)
    assert engine.info.knobs.source == "pinned"


# --- other knobs --------------------------------------------------------------------------------------------------


def other_knobs(knobs: Knobs, **changes: object) -> Knobs:
    return replace(knobs, source="measured", sure=1.0, **changes)


@pytest.mark.parametrize("flash", [False, True])
def test_a_changed_context_holds_nothing_and_answers_as_a_new_one(
    load: Load, tiny_models: TinyModels, tmp_path: Path, flash: bool
) -> None:
    """From flash attention on to off, and back: states of the other setting are of no use, and never used."""
    model = load(tiny_models.chat)
    asked = spec(tiny_models.chat, tmp_path)
    served = Measured(model, replace(asked, settings=replace(asked.settings, slice_size=64)))
    retuning = _retuning(served)
    assert retuning.apply(other_knobs(served.knobs, flash_attn=not flash))
    assert served.loop.governor.floor == (8 if flash else 64), "with flash attention fewer rows cost as much"
    engine = RealEngine(model)
    engine.loop = served.loop
    story = engine.answer(STORY, 12, conversation="one")
    conversations = served.loop.conversations
    assert conversations is not None
    conversations.finish(served.loop.scheduler.cache.unkept(), 10.0)
    assert list((tmp_path / "kv" / "m").iterdir()), "its state is on the disk"
    assert retuning.apply(other_knobs(served.knobs, flash_attn=flash, slice_size=32))
    assert not any(slot.tokens for slot in served.loop.scheduler.cache.slots)
    assert served.loop.limits.slice_size == 32
    assert served.loop.costs.of(1) is None, "steps cost something else now"
    before = served.loop.scheduler.cached_tokens
    fresh = RealEngine(model, replace(engine.options, flash_attn=flash))
    assert engine.answer(STORY, 12, conversation="one") == fresh.answer(STORY, 12)
    assert served.loop.scheduler.cached_tokens == before, "all of it was computed again"
    assert served.loop.conversations.restored == 0
    assert story[1] == "length"


def test_states_turn_with_the_settings(load: Load, tiny_models: TinyModels, tmp_path: Path) -> None:
    model = load(tiny_models.chat)
    plain, flash = options(), options(flash_attn=True)
    marks = [fingerprint(tiny_models.chat, EngineSettings(), each) for each in (plain, flash)]
    snapshots = Snapshots(tmp_path, "m", marks[0], 1 << 30)
    engine = RealEngine(model, plain, snapshots)
    engine.answer(STORY, 4, conversation="one")
    engine.keep_states(10.0)
    prompt = model.tokenize(STORY, add_special=True, parse_special=False)
    assert snapshots.index.best(prompt, 0) is not None
    snapshots.turn_to(marks[1])
    assert snapshots.index.best(prompt, 0) is None
    assert list((tmp_path / "m").iterdir()), "another engine may have them"
    snapshots.turn_to(marks[0])
    assert snapshots.find(prompt, 0) is not None


def test_nothing_changes_while_somebody_waits(load: Load, tiny_models: TinyModels, tmp_path: Path) -> None:
    model = load(tiny_models.chat)
    served = Measured(model, spec(tiny_models.chat, tmp_path))
    engine = RealEngine(model)
    engine.loop = served.loop
    engine.ask(OTHER, 8)
    served.loop.step()
    assert not _retuning(served).apply(other_knobs(served.knobs, flash_attn=False))
    assert not served.told
    engine.drain()
    assert _retuning(served).apply(other_knobs(served.knobs, flash_attn=False))
    assert [knobs.flash_attn for knobs in served.told] == [False]


def test_threads_and_slices_change_under_the_context_that_there_is(
    load: Load, tiny_models: TinyModels, tmp_path: Path
) -> None:
    model = load(tiny_models.chat)
    served = Measured(model, replace(spec(tiny_models.chat, tmp_path, flash_attn=False), kv_bytes=1 << 20))
    engine = RealEngine(model)
    engine.loop = loop = served.loop
    engine.answer(STORY, 8)
    held = [list(slot.tokens) for slot in loop.scheduler.cache.slots]
    slices = {"32: slices, flash_attn=0": 7.0, "flash_attn=0: slice of 64, shallow": 1e-6}
    assert _retuning(served).apply(other_knobs(served.knobs, slice_size=32, cpu_threads=2, measurements=slices))
    assert lib.llama_n_threads(loop.context._pointer) == 2
    assert (loop.limits.slice_size, loop.scheduler.slice_size, loop.governor.slice_size) == (32, 32, 32)
    assert loop.governor.observe(1.0, 0, 1) == 32
    assert loop.governor.observe(29.0, 32, 1) == 8, "the slice's time is known, so it is held to it"
    assert loop.scheduler.cache.min_copy > 1, "with so cheap a token a copy hardly pays"
    assert [list(slot.tokens) for slot in loop.scheduler.cache.slots] == held
    assert _retuning(served).apply(other_knobs(served.knobs, slice_size=32, cpu_threads=2, measurements=slices))
    assert len(served.told) == 1, "nothing has changed, nothing is told"


def test_knobs_with_which_there_is_no_context_are_not_taken(
    load: Load, tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    model = load(tiny_models.chat)
    served = Measured(model, spec(tiny_models.chat, tmp_path))
    engine = RealEngine(model)
    engine.loop = served.loop
    expected = engine.answer(STORY, 8)
    make = type(model).make_context

    def refuse(model: Model, params, what: str):
        if params.flash_attn_type == 0:
            raise ModelLoadError("not enough memory")
        return make(model, params, what)

    monkeypatch.setattr(type(model), "make_context", refuse)
    assert _retuning(served).apply(other_knobs(served.knobs, flash_attn=False, measurements={"x": 1.0}))
    assert "not enough memory" in caplog.text
    assert [(knobs.flash_attn, knobs.measurements) for knobs in served.told] == [(True, {"x": 1.0})]
    assert engine.answer(STORY, 8) == expected
    assert served.loop.scheduler.cached_tokens == 0, "what the slots held is gone with the context"


def test_an_engine_that_is_left_without_a_context_ends(
    load: Load, tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(tiny_models.chat)
    served = Measured(model, spec(tiny_models.chat, tmp_path))

    def refuse(*_: object):
        raise ModelLoadError("not enough memory")

    monkeypatch.setattr(type(model), "make_context", refuse)
    with pytest.raises(RuntimeError, match="not enough memory"):
        _retuning(served).apply(other_knobs(served.knobs, flash_attn=False))


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"flash_attn": True}, "settings.reproducible"),
        ({"cache_type_v": "q8_0"}, "settings.cache_type_v"),
    ],
    ids=["flash attention", "quantized V"],
)
def test_what_cannot_be_reproducible_is_refused(
    load: Load, tiny_models: TinyModels, tmp_path: Path, settings: dict[str, object], param: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        build(
            load(tiny_models.chat),
            spec(tiny_models.chat, tmp_path, reproducible=True, **settings),
            lambda stage, part: None,
        )
    assert caught.value.param == param


def _entries(folder: Path) -> dict[str, object]:
    import json

    entries: dict[str, object] = json.loads((folder / "tuning" / "m.json").read_text())
    return entries


def _wanted(served: Measured) -> set[str]:
    return set(wanted(served.chore._choices, served.chore._best_flash()))


def _retuning(served: Measured):
    """The very one that the chore calls."""
    return served.chore._settled.__self__._retuning
