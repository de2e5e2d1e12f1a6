"""The sizes of a context are those that admission decided; what is free now is looked at once more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from janflask.engine import sizing as module
from janflask.engine.sizing import size_context
from janflask.models.engine_settings import EngineSettings

GIB = 1 << 30


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: SimpleNamespace(available=GIB))


def sized(kv_bytes: int | None = None, *, on_gpu: bool = False, **settings: Any) -> module.Sizing:
    model: Any = SimpleNamespace(ctx_train=2048, on_gpu=on_gpu)
    return size_context(model, EngineSettings(**settings), kv_bytes)


def test_an_engine_makes_as_many_sequences_as_it_is_told() -> None:
    for number in (1, 3, 8, 64):
        options = sized(GIB, n_parallel=number).options
        assert (options.n_seq, options.kv_cells, options.ctx_len) == (number, number * 2048, 2048)


def test_memory_that_is_gone_meanwhile_is_told_and_changes_nothing() -> None:
    told = sized(GIB + 1, n_parallel=3)
    assert told.options.n_seq == 3
    (note,) = told.notes
    assert note.startswith("the KV cache of 3 conversations of 2048 tokens takes 1.0 GiB and 1.0 GiB are free")
    assert sized(GIB, n_parallel=3).notes == ()
    assert sized(n_parallel=3).notes == (), "nothing is known of it"
    assert sized(GIB + 1, n_parallel=3, on_gpu=True).notes == (), "it lies elsewhere"
