"""What a load that failed leaves behind: no memory, and nothing that the next one would stumble over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from llama_cpp import llama_cpp as lib

from janflask.engine.builder import build
from janflask.engine.context import LlamaContext
from janflask.engine.model import Model
from janflask.errors import EngineError, ModelLoadError
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.engine_settings import EngineSettings
from tests.ext.conftest import Load
from tests.ext.real_loop import Engine, options
from tests.models.tiny import TinyModels, write_embedding, write_lora

REASONS = ("corrupted", "' not found", "architecture", "shape", "No such")


class Books:
    """How many models and contexts are there now, by what llama.cpp was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models = self.contexts = 0
        for made, freed, kind in (
            ("llama_model_load_from_file", "llama_model_free", "models"),
            ("llama_init_from_model", "llama_free", "contexts"),
        ):
            monkeypatch.setattr(lib, made, self._counted(getattr(lib, made), kind, 1))
            monkeypatch.setattr(lib, freed, self._counted(getattr(lib, freed), kind, -1))

    def _counted(self, call: Callable[..., object], kind: str, step: int) -> Callable[..., object]:
        def counted(*args: object) -> object:
            given = call(*args)
            if step < 0 or given:
                setattr(self, kind, getattr(self, kind) + step)
            return given

        return counted


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> Books:
    return Books(monkeypatch)


@pytest.fixture
def answer(tiny_models: TinyModels, load: Load) -> Callable[[], tuple[str, str]]:
    """What the good model says, loaded again each time."""

    def say() -> tuple[str, str]:
        model = load(tiny_models.chat)
        engine = Engine(model)
        said = engine.answer("hello", 12)
        engine.context.close()
        lib.llama_model_free(model.pointer)
        return said

    return say


def test_the_next_load_is_as_if_nothing_had_been(
    tiny_models: TinyModels, load: Load, tmp_path: Path, books: Books, answer: Callable[[], tuple[str, str]]
) -> None:
    expected = answer()
    for file, settings, reason in (
        (tiny_models.cut_short, {}, "corrupted or incomplete"),
        (tiny_models.missing_tensor, {}, "'blk.1.ffn_down.weight' not found"),
        (tiny_models.unknown_architecture, {}, "unknown model architecture"),
        (tiny_models.chat, {"lora": str(write_lora(tmp_path / "wide.gguf", width=32))}, "incorrect shape"),
        (tiny_models.chat, {"lora": str(tmp_path / "missing.gguf")}, "No such file"),
    ):
        with pytest.raises(ModelLoadError, match=reason) as caught:
            load(file, **settings)
        assert (books.models, books.contexts) == (0, 0)
        told = [word for word in REASONS if word in caught.value.message]
        assert told == [word for word in REASONS if word in reason], "an earlier load's reason is told too"
        assert answer() == expected


def test_an_embedder_that_is_asked_for_text_leaves_no_context(
    tiny_models: TinyModels, load: Load, books: Books
) -> None:
    model = load(tiny_models.embedding)
    with pytest.raises(ModelLoadError, match="makes embeddings"):
        LlamaContext(model, options())
    assert books.contexts == 0


def test_an_adapter_that_a_context_does_not_take_leaves_none(
    tiny_models: TinyModels, load: Load, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(tiny_models.chat, lora=str(tiny_models.lora))
    monkeypatch.setattr(lib, "llama_set_adapters_lora", lambda *args: -1)
    with pytest.raises(ModelLoadError, match="adapter"):
        LlamaContext(model, options())
    assert books.contexts == 0


def broken_embedder(load: Load, tmp_path: Path) -> Model:
    return load(write_embedding(tmp_path / "zeros.gguf", constant=0.0))


def test_embeddings_that_prove_broken_leave_no_context(load: Load, tmp_path: Path, books: Books) -> None:
    """Those of a model that also makes text are opened again for every request until they work."""
    model = broken_embedder(load, tmp_path)
    settings = EngineSettings(cpu_threads=1)
    spec = EngineSpec(model_id="m", model_path="m.gguf", socket_path="none", cache_dir=str(tmp_path), settings=settings)
    for _ in range(3):
        with pytest.raises(EngineError, match="computes no numbers"):
            build(model, spec, lambda stage, part: None)
        assert books.contexts == 0


def test_a_micro_batch_that_was_cut_is_refused_by_name(
    tiny_models: TinyModels, load: Load, tmp_path: Path, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MEAN and CLS pool what is in the last micro-batch, without a word."""
    monkeypatch.setattr(lib, "llama_n_ubatch", lambda pointer: 64)
    spec = EngineSpec(
        model_id="m",
        model_path="m.gguf",
        socket_path="none",
        cache_dir=str(tmp_path),
        settings=EngineSettings(cpu_threads=1),
    )
    with pytest.raises(ModelLoadError, match="lower ctx_len"):
        build(load(tiny_models.embedding), spec, lambda stage, part: None)
    assert books.contexts == 0
