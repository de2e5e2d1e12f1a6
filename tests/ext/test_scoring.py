"""Scores of given tokens: the sampler's arithmetic against NumPy, and a prompt's on the starter model's own logits."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from janflask.engine.context import ContextOptions, LlamaContext
from janflask.engine.model import Model
from janflask_ext import backend as hot
from janflask_ext.sampling import Sampler
from tests.ext.conftest import Load

OPTIONS = ContextOptions(
    ctx_len=256, n_seq=2, kv_cells=512, flash_attn=False, kv_unified=False, cpu_threads=2, batch_size=64
)
TEXT = "The capital of France is Paris. The café ☕ was closed, so we went home and wrote a letter."


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = np.where(np.isnan(logits), -np.inf, logits).astype(np.float64)
    shifted = wide - wide.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


# --- a row ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_vocab", [5, 256, 1000, 49_152])
def test_a_score_is_the_softmax_of_the_row_as_it_is(n_vocab: int) -> None:
    rng = np.random.default_rng(n_vocab)
    row = (rng.standard_normal(n_vocab) * 6).astype(np.float32)
    expected = log_softmax(row)
    # What changes a draw changes no score, and a score changes no draw.
    sampler = Sampler(n_vocab, top_logprobs=4, logit_bias=[(1, 50.0)], banned=(2,), repeat_penalty=3.0, seed=1)
    other = Sampler(n_vocab, top_logprobs=4, logit_bias=[(1, 50.0)], banned=(2,), repeat_penalty=3.0, seed=1)
    before = row.copy()
    for token in {0, 1, 2, n_vocab - 1, int(row.argmax()), int(row.argmin())}:
        sampler.score(row, token)
        logprob, top = sampler.logprobs()
        assert logprob == pytest.approx(expected[token], abs=1e-5)
        best = np.argsort(-expected, kind="stable")[:4]
        assert [candidate for candidate, _ in top] == best.tolist()
        assert [value for _, value in top] == pytest.approx(expected[best].tolist(), abs=1e-5)
        assert dict(top).get(token, logprob) == logprob, "the same number to the last bit: clients compare them"
    assert np.array_equal(row, before)
    assert [sampler.sample(row) for _ in range(20)] == [other.sample(row) for _ in range(20)]


@pytest.mark.parametrize("bad", [-np.inf, np.nan])
def test_a_token_that_cannot_be(bad: float) -> None:
    row = np.array([1.0, bad, 2.0], np.float32)
    sampler = Sampler(3, top_logprobs=3)
    sampler.score(row, 1)
    logprob, top = sampler.logprobs()
    assert logprob == -np.inf
    assert [token for token, _ in top] == [2, 0]
    sampler.score(np.full(3, bad, np.float32), 0)
    assert sampler.logprobs() == (-np.inf, [])


def test_without_candidates() -> None:
    sampler = Sampler(3, top_logprobs=0)
    sampler.score(np.zeros(3, np.float32), 2)
    assert sampler.logprobs() == (pytest.approx(-np.log(3)), [])


@pytest.mark.parametrize("token", [-1, 3])
def test_no_such_token(token: int) -> None:
    with pytest.raises(ValueError, match="token must be an integer from 0 to 2"):
        Sampler(3, top_logprobs=0).score(np.zeros(3, np.float32), token)


def test_a_sampler_without_log_probabilities() -> None:
    with pytest.raises(ValueError, match="top_logprobs"):
        Sampler(3).score(np.zeros(3, np.float32), 0)


# --- a prompt -------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(load: Load, starter_gguf: Path) -> Model:
    return load(starter_gguf)


@pytest.fixture
def context(model: Model) -> Iterator[LlamaContext]:
    context = LlamaContext(model, OPTIONS)
    yield context
    context.close()


def reference(model: Model, tokens: array[int], slice_size: int) -> NDArray[np.float64]:
    """Log-probabilities of every token of the vocabulary at each place, by llama-cpp-python alone.

    In slices: few rows have other bits than many.
    """
    params = lib.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 256
    params.n_threads = params.n_threads_batch = 2
    params.flash_attn_type = 0
    context = lib.llama_init_from_model(model.pointer, params)
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    rows: list[NDArray[np.float32]] = []
    for start in range(0, len(tokens), slice_size):
        part = tokens[start : start + slice_size]
        for i, token in enumerate(part):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, start + i, 1, 1
            batch.seq_id[i][0] = 0
        batch.n_tokens = len(part)
        assert lib.llama_decode(context, batch) == 0
        rows.extend(np.ctypeslib.as_array(lib.llama_get_logits(context), (len(part), model.n_vocab)).copy())
    lib.llama_batch_free(batch)
    lib.llama_free(context)
    return np.stack([log_softmax(row) for row in rows])


@pytest.mark.parametrize("slice_size", [64, 7])
def test_a_prompts_scores_are_those_of_llama_cpps_logits(model: Model, context: LlamaContext, slice_size: int) -> None:
    tokens = model.tokenize(TEXT, add_special=True, parse_special=False)
    expected = reference(model, tokens, slice_size)
    sampler = Sampler(model.n_vocab, top_logprobs=3, n_ctx=256)
    scores: list[tuple[float, list[tuple[int, float]]]] = []
    for start in range(0, len(tokens), slice_size):
        count = min(slice_size, len(tokens) - start)
        context.batch.clear()
        if start == 0:  # somebody else's rows come before them
            context.batch.add(array("i", [5, 6]), 0, 2, 1, 1)
        last = context.batch.add(tokens, start, count, 0, count)
        assert context.decode() == 0
        known = min(start + count + 1, len(tokens)) - start - 1
        scores += context.score(last - count + 1, tokens, start + 1, known, sampler)
    assert len(scores) == len(tokens) - 1
    for place, (logprob, top) in enumerate(scores):
        assert logprob == pytest.approx(expected[place][tokens[place + 1]], abs=2e-3)
        best = int(expected[place].argmax())
        assert top[0][1] == pytest.approx(expected[place][best], abs=2e-3)


def test_rows_without_logits_and_slices_outside(model: Model, context: LlamaContext) -> None:
    tokens = array("i", [1, 2, 3, 4])
    sampler = Sampler(model.n_vocab, top_logprobs=0)
    context.batch.add(tokens, 0, 4, 0, 2)  # rows 2 and 3
    assert context.decode() == 0
    assert len(context.score(2, tokens, 2, 2, sampler)) == 2
    assert context.score(-5, tokens, 1, 0, sampler) == []
    with pytest.raises(ValueError, match="row 1 has no logits"):
        context.score(1, tokens, 2, 1, sampler)
    for start, count in [(-1, 1), (3, 2), (0, -1)]:
        with pytest.raises(ValueError, match="outside"):
            context.score(2, tokens, start, count, sampler)
    with pytest.raises(ValueError, match="not in the vocabulary"):
        context.score(2, array("i", [model.n_vocab]), 0, 1, sampler)
    with pytest.raises(ValueError, match="top_logprobs"):
        context.score(2, tokens, 2, 1, Sampler(model.n_vocab))


def test_outputs_of_a_batch() -> None:
    batch = hot.Batch(8)
    tokens = array("i", range(8))
    for outputs in (-1, 4):
        with pytest.raises(ValueError, match="cannot get logits"):
            batch.add(tokens, 0, 3, 0, outputs)
    assert len(batch) == 0


def test_the_vocabulary_knows_what_makes_no_text(model: Model) -> None:
    end = model.tokenize("<|im_end|>", add_special=False, parse_special=True)[0]
    word = model.tokenize("word", add_special=False, parse_special=False)[0]
    assert (model.vocab.hides(end), model.vocab.hides(word)) == (True, False)
    for token in (-1, model.n_vocab):
        with pytest.raises(IndexError, match="not in the vocabulary"):
            model.vocab.hides(token)
