"""Embeddings of real models, compared with those that llama-cpp-python makes of the same texts."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from janflask.engine.embedding import PACK_TOKENS, EmbeddingContext, EmbeddingPlan, plan_embeddings
from janflask.engine.model import Model
from janflask.errors import EngineError, ModelLoadError
from janflask.models.engine_settings import EngineSettings
from tests.ext.conftest import Load
from tests.models.tiny import TinyModels, write_chat, write_embedding

TEXTS = [
    "the cat sat on the mat",
    "hello",
    "a dog and a cat ran",
    "unGood searches, 1 2 3!",
    "blue " * 40,
    "?",
]
TOLERANCE = 1e-4  # of a number: another batch is summed in another order, and GELU goes by a coarse table


def opened(model: Model, **settings: object) -> EmbeddingContext:
    return EmbeddingContext(model, plan_embeddings(model, EngineSettings(cpu_threads=1, **settings)))


def embedded(context: EmbeddingContext, texts: Sequence[str]) -> np.ndarray:
    return vectors(context.embed([context.tokenize(text) for text in texts]))


def vectors(raw: Sequence[bytes | None]) -> np.ndarray:
    assert None not in raw
    return np.array([np.frombuffer(vector, "<f4") for vector in raw])


def reference(path: Path, texts: Sequence[str], pooling: int = llama_cpp.LLAMA_POOLING_TYPE_UNSPECIFIED) -> np.ndarray:
    """llama-cpp-python's, one text at a time."""
    llama = llama_cpp.Llama(
        str(path), embedding=True, n_ctx=1024, n_batch=1024, n_ubatch=1024, n_threads=1, pooling_type=pooling
    )
    try:
        return np.array([llama.embed(text, normalize=True) for text in texts], np.float32)
    finally:
        llama.close()


@pytest.mark.parametrize("which", ["embedding", "cls_embedding"])
def test_they_are_llama_cpps_own(tiny_models: TinyModels, load: Load, which: str) -> None:
    path = getattr(tiny_models, which)
    ours = embedded(opened(load(path)), TEXTS)
    assert np.abs(ours - reference(path, TEXTS)).max() < TOLERANCE
    assert np.abs(np.linalg.norm(ours, axis=1) - 1).max() < 1e-6
    assert ours.shape == (len(TEXTS), 32)


def test_pooling_is_the_files(tiny_models: TinyModels, load: Load) -> None:
    mean, cls = (load(path) for path in (tiny_models.embedding, tiny_models.cls_embedding))
    assert (plan_embeddings(mean, EngineSettings()).pooling, plan_embeddings(cls, EngineSettings()).pooling) == (
        "mean",
        "cls",
    )
    assert np.abs(embedded(opened(mean), TEXTS) - embedded(opened(cls), TEXTS)).max() > 0.1


def test_a_model_made_for_text_gives_its_last_tokens(tiny_models: TinyModels, load: Load) -> None:
    model = load(tiny_models.chat)
    context = opened(model)
    assert (context.plan.pooling, context.plan.in_slices) == ("last", True)
    ours = embedded(context, TEXTS)
    theirs = reference(tiny_models.chat, TEXTS, llama_cpp.LLAMA_POOLING_TYPE_LAST)
    assert np.abs(ours - theirs).max() < TOLERANCE


@pytest.mark.parametrize("which", ["embedding", "cls_embedding", "chat"])
def test_a_batch_is_as_each_by_itself_and_in_order(tiny_models: TinyModels, load: Load, which: str) -> None:
    context = opened(load(getattr(tiny_models, which)))
    together = embedded(context, TEXTS)
    alone = np.concatenate([embedded(context, [text]) for text in TEXTS])
    backwards = embedded(context, TEXTS[::-1])[::-1]
    assert np.abs(together - alone).max() < TOLERANCE
    assert np.abs(together - backwards).max() < TOLERANCE
    assert len(np.unique(together.round(3), axis=0)) == len(TEXTS)


def test_a_long_input_in_slices_is_as_in_one(load: Load, tmp_path: Path) -> None:
    path = write_chat(tmp_path / "long.gguf", context=2048)
    context = opened(load(path))
    text = "the dog ran and " * 90
    tokens = context.tokenize(text)
    assert context.plan.options.batch_size < len(tokens) < context.capacity
    ours = vectors(context.embed([tokens]))
    llama = llama_cpp.Llama(
        str(path), embedding=True, n_ctx=2048, n_batch=2048, n_ubatch=2048, n_threads=1, pooling_type=3
    )
    theirs = np.array(llama.embed(text, normalize=True), np.float32)
    llama.close()
    assert np.abs(ours[0] - theirs).max() < TOLERANCE
    assert np.abs(vectors(context.embed([tokens]))[0] - ours[0]).max() == 0  # nothing is left of the first time


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "encoder"])
def test_a_long_input_is_pooled_over_all_of_it(load: Load, tmp_path: Path, pooling: str, causal: bool) -> None:
    """MEAN and CLS of llama.cpp are those of the last micro-batch, 512 tokens by default. Here: by hand."""
    write = write_chat if causal else write_embedding
    path = write(tmp_path / "long.gguf", context=2048, pooling=pooling)
    context = opened(load(path))
    assert context.plan.pooling == pooling
    text = "".join(
        words * (25 if causal else 75) for words in ("the cat sat on ", "blue 1 2 3 ", "un,good?! ", "red dog ran ")
    )
    tokens = context.tokenize(text)
    assert 2 * PACK_TOKENS < len(tokens) < context.capacity
    llama = llama_cpp.Llama(
        str(path), embedding=True, n_ctx=2048, n_batch=2048, n_ubatch=2048, n_threads=1, pooling_type=0
    )
    each = np.array(llama.embed(text, normalize=False), np.float64)
    llama.close()
    assert each.shape == (len(tokens), context.width)
    expected = {"mean": each.mean(0), "cls": each[0], "last": each[-1]}[pooling]
    ours = vectors(context.embed([tokens]))[0]
    assert np.abs(ours - expected / np.linalg.norm(expected)).max() < 2e-3
    if pooling != "last":
        tail = each[-512:].mean(0) if pooling == "mean" else each[-512]
        assert np.abs(ours - tail / np.linalg.norm(tail)).max() > 0.02, "the last 512 alone would not be told apart"


@pytest.mark.parametrize("flash_attn", [False, True])
def test_flash_attention_changes_nothing_that_matters(tiny_models: TinyModels, load: Load, flash_attn: bool) -> None:
    ours = embedded(opened(load(tiny_models.embedding), flash_attn=flash_attn), TEXTS)
    assert np.abs(ours - reference(tiny_models.embedding, TEXTS)).max() < (2e-3 if flash_attn else TOLERANCE)


def test_an_input_of_the_whole_context_fits(tiny_models: TinyModels, load: Load) -> None:
    context = opened(load(tiny_models.embedding))
    assert context.capacity == 128
    assert vectors(context.embed([array("i", [5 + i % 60 for i in range(128)])])).shape == (1, 32)


def test_a_table_of_positions_is_not_overrun(tiny_models: TinyModels, load: Load) -> None:
    model = load(tiny_models.embedding)
    plan = plan_embeddings(model, EngineSettings(ctx_len=4096))
    assert plan.options.ctx_len == 128
    assert "embeddings: ctx_len is 128, not 4096: the model knows no more positions" in plan.notes
    assert plan_embeddings(model, EngineSettings(ctx_len=64)).options.ctx_len == 64


def test_sizes_follow_the_settings(tiny_models: TinyModels, load: Load) -> None:
    options = plan_embeddings(load(tiny_models.embedding), EngineSettings(n_parallel=3, cpu_threads=2)).options
    assert (options.n_seq, options.cpu_threads, options.batch_size, options.flash_attn) == (3, 2, PACK_TOKENS, False)


def test_long_inputs_use_flash_attention(load: Load, tmp_path: Path) -> None:
    """Without it the scores of 8192 tokens with one another would take half a gigabyte here."""
    model = load(write_embedding(tmp_path / "long.gguf", context=8192))
    plan = plan_embeddings(model, EngineSettings())
    assert (plan.options.ctx_len, plan.options.batch_size, plan.options.flash_attn) == (8192, 8192, True)


def test_a_context_that_would_fill_the_memory_is_made_smaller(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(write_embedding(tmp_path / "long.gguf", context=8192))
    model.n_vocab = 250_000
    monkeypatch.setattr("janflask.engine.embedding.psutil.virtual_memory", lambda: type("", (), {"available": 2**32}))
    plan = plan_embeddings(model, EngineSettings())
    assert plan.options.ctx_len == 2**30 // 1_000_000
    assert "ctx_len is 1073, not 8192" in plan.notes[0]
    assert plan_embeddings(model, EngineSettings(ctx_len=8192)).options.ctx_len == 8192


def test_numbers_that_are_none_are_told(load: Load, tmp_path: Path) -> None:
    """A vector without a direction cannot be compared with anything."""
    path = write_embedding(tmp_path / "zeros.gguf", constant=0.0)
    context = opened(load(path))
    assert context.embed([array("i", [7, 8])]) == [None]
    with pytest.raises(EngineError, match="computes no numbers"):
        context.prove()


def test_what_ranks_does_not_embed(tiny_models: TinyModels, load: Load) -> None:
    with pytest.raises(ModelLoadError, match="ranks documents"):
        plan_embeddings(load(tiny_models.reranker), EngineSettings())


def test_a_refused_batch_is_an_error(tiny_models: TinyModels, load: Load) -> None:
    context = opened(load(tiny_models.embedding))
    with pytest.raises(EngineError, match="could not compute"):
        context.embed([array("i", [1 << 20])])
    assert isinstance(context.plan, EmbeddingPlan)
    assert np.isfinite(embedded(context, ["the next one"])).all()
