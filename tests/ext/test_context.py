"""The hot calls into llama.cpp, on the starter model: what they compute, what they refuse, and the check at import."""

from __future__ import annotations

import ctypes
from array import array
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import llama_cpp as lib

from janflask.engine.context import ContextOptions, LlamaContext
from janflask.engine.library_log import LibraryLog
from janflask.engine.model import Model
from janflask.errors import InvalidRequestError, ModelLoadError
from janflask.models.engine_settings import EngineSettings
from janflask.models.sampling import SamplingParams
from janflask_ext import backend as hot
from janflask_ext.sampling import Sampler

PLAIN = {"add_special": False, "parse_special": False}
OPTIONS = ContextOptions(
    ctx_len=256, n_seq=4, kv_cells=1024, flash_attn=False, kv_unified=False, cpu_threads=2, batch_size=64
)


@pytest.fixture(scope="module")
def library_log() -> LibraryLog:
    return LibraryLog()


@pytest.fixture(scope="module")
def model(starter_gguf: Path, library_log: LibraryLog) -> Model:
    seen: list[float] = []
    model = Model(starter_gguf, EngineSettings(), library_log, seen.append)
    assert seen[-1] == 1.0
    return model


def test_the_vocabulary_is_llama_cpps(model: Model) -> None:
    tokens = range(model.n_vocab)
    assert hot.attributes(model.vocab_address, model.n_vocab) == [
        lib.llama_vocab_get_attr(model.vocab_pointer, token) for token in tokens
    ]
    ends = {token for token in tokens if lib.llama_vocab_is_eog(model.vocab_pointer, token)}
    assert hot.eog_tokens(model.vocab_address, model.n_vocab) == ends
    assert ends


@pytest.fixture
def context(model: Model):
    context = LlamaContext(model, OPTIONS)
    yield context
    context.close()


def greedy(model: Model, context: LlamaContext, slot: int, tokens: array, count: int, chunk: int = 64) -> list[int]:
    """Prefill in chunks, then ``count`` greedy tokens in one slot."""
    sampler = Sampler(model.n_vocab, temperature=0.0, seed=0, n_ctx=256)
    tokens = array("i", tokens)
    done = 0
    out: list[int] = []
    while len(out) < count:
        context.batch.clear()
        size = min(chunk, len(tokens) - done)
        row = context.batch.add(tokens, done, size, slot, done + size == len(tokens))
        assert context.decode() == 0
        done += size
        if done == len(tokens):
            [token] = context.sample([row], [sampler])
            out.append(token)
            tokens.append(token)
    return out


# --- the check at import ------------------------------------------------------------------------------------------


def test_the_loaded_library_passes_the_check():
    hot.check_abi(lib.llama_batch, hot.WRITTEN_FOR)


def test_another_layout_is_an_import_error():
    class Moved(ctypes.Structure):
        _fields_ = [*lib.llama_batch._fields_[:2], ("extra", ctypes.c_int64), *lib.llama_batch._fields_[2:]]

    with pytest.raises(ImportError, match="laid out"):
        hot.check_abi(Moved, hot.WRITTEN_FOR)


def test_another_version_is_an_import_error():
    with pytest.raises(ImportError, match=r"found 9\.9\.9"):
        hot.check_abi(lib.llama_batch, "9.9.9")


# --- batches ------------------------------------------------------------------------------------------------------


def test_a_batch_refuses_what_does_not_fit():
    batch = hot.Batch(4)
    tokens = array("i", range(10))
    assert batch.add(tokens, 2, 3, 0, True) == 2
    assert len(batch) == 3
    with pytest.raises(ValueError, match="do not fit"):
        batch.add(tokens, 0, 2, 1, False)
    for start, count in [(-1, 2), (9, 2), (0, 0), (0, -1), (11, 1)]:
        with pytest.raises(ValueError, match="outside"):
            batch.add(tokens, start, count, 0, False)
    assert len(batch) == 3
    batch.clear()
    assert len(batch) == 0
    with pytest.raises(ValueError, match="capacity"):
        hot.Batch(0)
    with pytest.raises(TypeError):
        batch.add(None, 0, 1, 0, False)
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        batch.add(array("d", [1.0]), 0, 1, 0, False)


def test_null_addresses_are_refused():
    with pytest.raises(ValueError, match="needed"):
        hot.Context(0, 0)


# --- vocabulary ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("special", [True, False])
def test_tokenize_is_llama_cpps(model: Model, special: bool):
    for text in ["", "Hello, world", "<|im_start|>user\nhi<|im_end|>", "ümläut 🙂 漢字", "a" * 5000]:
        raw = text.encode()
        buffer = (lib.llama_token * (len(raw) + 8))()
        count = lib.llama_tokenize(model.vocab_pointer, raw, len(raw), buffer, len(raw) + 8, False, special)
        assert list(model.tokenize(text, add_special=False, parse_special=special)) == buffer[:count]


def test_no_character_but_six_control_characters_is_lost(model: Model):
    """Those of ASCII that the vocabulary has no token for; what is around them arrives."""
    lost = []
    for code in [*range(0x3000), 0xFEFF, 0xFFFD, *range(0x1F600, 0x1F650)]:
        if chr(code).isprintable() or code < 0x100:
            text = f"a{chr(code)}b".encode()
            found = b"".join(model.pieces[token] for token in model.tokenize(text.decode(), **PLAIN))
            if found != text:
                assert found == b"ab"
                lost.append(code)
    assert lost == [0x04, 0x06, 0x13, 0x14, 0x16, 0x1D]


def test_pieces_are_llama_cpps(model: Model):
    buffer = ctypes.create_string_buffer(512)
    for token in range(0, model.n_vocab, 97):
        length = lib.llama_token_to_piece(model.vocab_pointer, token, buffer, 512, 0, True)
        assert model.pieces[token] == buffer.raw[:length]
    assert model.special_text("eos") == "<|im_end|>"


def test_a_lone_surrogate_is_a_bad_request(model: Model):
    with pytest.raises(InvalidRequestError, match="lone surrogate at character 2"):
        model.tokenize("ab\udc80", add_special=False, parse_special=False)


# --- decode and memory --------------------------------------------------------------------------------------------


def test_logits_are_read_in_place(model: Model, context: LlamaContext):
    tokens = model.tokenize("The capital of France is", add_special=True, parse_special=False)
    row = context.batch.add(tokens, 0, len(tokens), 0, True)
    assert context.decode() == 0
    address = context._context.logits_address(row)
    logits = np.ctypeslib.as_array((ctypes.c_float * model.n_vocab).from_address(address))
    sampler = Sampler(model.n_vocab, temperature=0.0, seed=0, n_ctx=256)
    assert context.sample([row], [sampler]) == [int(logits.argmax())]
    assert model.pieces[int(logits.argmax())] == b" Paris"


def test_slices_slots_copies_and_trims_do_not_change_the_text(model: Model, context: LlamaContext):
    prompt = model.tokenize("Once upon a time there was a small dragon who", add_special=True, parse_special=False)
    expected = greedy(model, context, 0, prompt, 12)
    assert greedy(model, context, 1, prompt, 12, chunk=3) == expected
    # Slot 2 takes the prompt over from slot 0, without what slot 0 generated.
    context.copy(0, 2, len(prompt) - 1)
    sampler = Sampler(model.n_vocab, temperature=0.0, seed=0, n_ctx=256)
    context.batch.clear()
    row = context.batch.add(prompt, len(prompt) - 1, 1, 2, True)
    assert context.decode() == 0
    assert context.sample([row], [sampler]) == expected[:1]
    # Trimmed to nothing, a slot starts anew.
    assert context.trim(0, 0)
    assert greedy(model, context, 0, prompt, 12) == expected


def test_a_clone_has_cells_of_its_own(model: Model):
    context = LlamaContext(
        model,
        ContextOptions(
            ctx_len=64, n_seq=2, kv_cells=512, flash_attn=False, kv_unified=True, cpu_threads=2, batch_size=64
        ),
    )
    prompt = model.tokenize("One two three four five six seven", add_special=True, parse_special=False)
    expected = greedy(model, context, 0, prompt, 4)
    context.trim(0, len(prompt) - 1)
    context.clone(0, [1])
    context.trim(0, 0)
    context.batch.clear()
    row = context.batch.add(prompt, len(prompt) - 1, 1, 1, True)
    assert context.decode() == 0
    sampler = Sampler(model.n_vocab, temperature=0.0, seed=0, n_ctx=256)
    assert context.sample([row], [sampler]) == expected[:1]
    context.close()


def test_a_row_without_logits_gives_no_token(model: Model, context: LlamaContext):
    tokens = array("i", [1, 2, 3])
    context.batch.add(tokens, 0, 3, 0, False)
    row = context.batch.add(tokens, 0, 3, 1, True)
    assert context.decode() == 0
    sampler = Sampler(model.n_vocab, temperature=0.0, seed=0, n_ctx=256)
    assert context.sample([0], [sampler]) == [-1]
    assert context.sample([row], [sampler])[0] >= 0


def test_a_full_memory_is_told_by_its_code(model: Model):
    context = LlamaContext(
        model,
        ContextOptions(
            ctx_len=256, n_seq=1, kv_cells=256, flash_attn=False, kv_unified=True, cpu_threads=2, batch_size=256
        ),
    )
    tokens = array("i", [5] * 400)
    context.batch.add(tokens, 0, 200, 0, True)
    assert context.decode() == 0
    context.batch.clear()
    context.batch.add(tokens, 200, 100, 0, True)
    assert context.decode() == 1
    context.close()


def test_sampling_parameters_out_of_range_are_a_bad_request(model: Model):
    with pytest.raises(InvalidRequestError, match="top_p"):
        model.make_sampler(SamplingParams(top_p=float("nan")), 0, array("i", [1]), 256)


# --- files that are no models -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"<html>not found</html>", "starts with b'<htm'"), (b"GGUF", "cannot be loaded: .*")],
)
def test_a_file_that_is_no_gguf_says_so(tmp_path: Path, library_log: LibraryLog, content: bytes, reason: str):
    file = tmp_path / "broken.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelLoadError, match=reason):
        Model(file, EngineSettings(), library_log, lambda fraction: None)


def test_a_truncated_gguf_says_so(tmp_path: Path, library_log: LibraryLog, starter_gguf: Path):
    file = tmp_path / "truncated.gguf"
    with starter_gguf.open("rb") as source:
        file.write_bytes(source.read(30_000_000))
    with pytest.raises(ModelLoadError, match="corrupted or incomplete"):
        Model(file, EngineSettings(), library_log, lambda fraction: None)


def test_a_missing_file_says_so(tmp_path: Path, library_log: LibraryLog):
    with pytest.raises(ModelLoadError, match="No such file"):
        Model(tmp_path / "nothing.gguf", EngineSettings(), library_log, lambda fraction: None)
