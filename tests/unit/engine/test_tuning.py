"""Choosing knobs from figures, and remembering them; the figures themselves are made in tests/e2e."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from janflask.engine import tuning
from janflask.engine.context import ContextOptions
from janflask.engine.knob_cache import recall, remember
from janflask.engine.tuning import Timing, best_slice, fastest, thread_candidates, tune
from janflask.models.engine_info import Knobs
from janflask.models.engine_settings import EngineSettings

OPTIONS = ContextOptions(
    ctx_len=8192, n_seq=8, kv_cells=65536, flash_attn=False, kv_unified=False, cpu_threads=2, batch_size=256
)


def timing(prompt: float, one: float, full: float) -> Timing:
    return Timing(prompt, one, full, 8)


def test_the_fastest_exchange_wins():
    # An AMX machine: flash attention is quicker for prompts and much slower for decoding at a few hundred tokens.
    timings = {
        (False, False): timing(0.8, 8.5, 16.9),
        (False, True): timing(0.8, 8.5, 40.0),
        (True, False): timing(0.6, 11.6, 46.1),
        (True, True): timing(0.6, 11.6, 80.0),
    }
    assert fastest(timings) == (False, False)


def test_a_unified_kv_is_taken_unless_streams_are_clearly_faster():
    timings = {(False, False): timing(2.3, 7.0, 30.0), (False, True): timing(2.3, 7.0, 30.9)}
    assert fastest(timings) == (False, True)
    timings = {(False, False): timing(2.3, 7.0, 30.0), (False, True): timing(2.3, 7.0, 42.0)}
    assert fastest(timings) == (False, False)


def test_a_slice_is_as_large_as_a_short_step_allows():
    assert best_slice({32: 33.0, 64: 50.0, 128: 95.0, 256: 186.0}, step_ms=30.0) == 64
    assert best_slice({32: 33.0, 64: 50.0, 128: 95.0, 256: 186.0}, step_ms=50.0) == 128


def test_a_wasteful_slice_is_not_taken_however_short():
    # Flash attention on a CPU: 32 rows cost as much as 64.
    assert best_slice({32: 165.0, 64: 68.0, 128: 135.0}, step_ms=20.0) == 64


def test_the_smallest_sound_slice_when_all_are_long():
    assert best_slice({32: 90.0, 64: 170.0, 128: 330.0}, step_ms=10.0) == 32


@pytest.mark.parametrize(("cores", "candidates"), [(1, [1]), (2, [2]), (3, [3]), (4, [4, 3, 2]), (16, [16, 12, 8])])
def test_many_cores_are_tried_in_part(monkeypatch, cores, candidates):
    monkeypatch.setattr(tuning, "usable_cores", lambda: cores)
    assert thread_candidates(EngineSettings()) == candidates
    assert thread_candidates(EngineSettings(cpu_threads=5)) == [5]


def test_with_every_knob_pinned_nothing_is_measured(tmp_path: Path):
    settings = EngineSettings(flash_attn=True, kv_unified=False, slice_size=48, cpu_threads=3)
    knobs = tune(None, settings, OPTIONS, tmp_path / "cache.json", lambda fraction: None)
    assert knobs == Knobs(flash_attn=True, kv_unified=False, slice_size=48, cpu_threads=3, source="pinned")
    assert not (tmp_path / "cache.json").exists()


KNOBS = Knobs(
    flash_attn=False, kv_unified=True, slice_size=32, cpu_threads=2, source="measured", measurements={"slice_ms": 9.5}
)


def test_remembered_knobs_come_back_by_their_fingerprint(tmp_path: Path):
    file = tmp_path / "tuning" / "model.json"
    remember(file, "this machine", KNOBS)
    remember(file, "another", Knobs(flash_attn=True, kv_unified=True, slice_size=64, cpu_threads=8, source="measured"))
    found = recall(file, "this machine")
    assert found is not None
    assert (found.source, found.slice_size, found.measurements) == ("remembered", 32, {"slice_ms": 9.5})
    assert recall(file, "a third") is None
    assert [entry.name for entry in file.parent.iterdir()] == ["model.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"key": {"flash_attn": True}}), json.dumps({"key": 1})])
def test_a_broken_memory_means_measuring_again(tmp_path: Path, content: str, caplog):
    file = tmp_path / "model.json"
    file.write_text(content)
    assert recall(file, "key") is None
    assert "measuring again" in caplog.text
    remember(file, "key", KNOBS)
    assert recall(file, "key") is not None


def test_a_memory_that_cannot_be_written_is_only_a_warning(tmp_path: Path, caplog):
    (tmp_path / "tuning").write_text("a file where the folder should be")
    remember(tmp_path / "tuning" / "model.json", "key", KNOBS)
    assert "cannot be remembered" in caplog.text
