"""What the settings of a model do in llama.cpp, and what it says of files that it cannot load."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from janflask.engine.builder import build
from janflask.engine.context import ContextOptions, LlamaContext
from janflask.engine.model import Model
from janflask.errors import InvalidRequestError, ModelLoadError
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.engine_settings import CACHE_TYPES, EngineSettings
from janflask.models.gguf_header import read_header
from janflask.models.memory_estimate import estimate
from janflask_ext.sampling import Sampler
from tests.ext.conftest import Load
from tests.models.tiny import TinyModels, write_chat, write_embedding, write_lora

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "the cat sat on the mat"


def options(**changes: object) -> ContextOptions:
    fixed = {"ctx_len": 256, "n_seq": 1, "kv_cells": 256, "kv_unified": True, "cpu_threads": 1, "batch_size": 64}
    return ContextOptions(**{"flash_attn": False, **fixed, **changes})


def answer(model: Model, made_with: ContextOptions | None = None, count: int = 24) -> list[int]:
    """Greedy tokens after ``PROMPT``."""
    context = LlamaContext(model, made_with or options())
    tokens = model.tokenize(PROMPT, add_special=True, parse_special=False)
    sampler = Sampler(model.n_vocab, temperature=0.0, seed=0, n_ctx=256)
    done = 0
    while len(tokens) < count + 8:
        context.batch.clear()
        row = context.batch.add(tokens, done, len(tokens) - done, 0, True)
        assert context.decode() == 0
        done = len(tokens)
        tokens.append(context.sample([row], [sampler])[0])
    context.close()
    return tokens.tolist()


def test_the_small_model_says_the_same_each_time(tiny_models: TinyModels, load: Load) -> None:
    said = answer(load(tiny_models.chat))
    assert said == answer(load(tiny_models.chat))
    assert said != answer(load(tiny_models.other_chat))
    assert len(set(said)) > 5


@pytest.mark.parametrize("settings", [{"mmap": False}, {"mlock": True}, {"mmap": False, "mlock": True}])
def test_however_the_weights_are_loaded_they_are_the_same(
    tiny_models: TinyModels, load: Load, settings: dict[str, bool]
) -> None:
    assert answer(load(tiny_models.chat, **settings)) == answer(load(tiny_models.chat))


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_weights_are_mapped_unless_told_otherwise(tiny_models: TinyModels, load: Load, tmp_path: Path) -> None:
    for name, settings, expected in (("a", {}, True), ("b", {"mmap": False}, False)):
        path = Path(shutil.copyfile(tiny_models.chat, tmp_path / f"{name}.gguf"))
        model = load(path, use_extra_bufts=False, **settings)
        assert mapped(path) is expected
        assert answer(model)


LOCKED = """
import ctypes, sys
from dataclasses import replace
from pathlib import Path
from janflask.engine.model import Model
from janflask.engine.library_log import LibraryLog
from janflask.models.engine_settings import EngineSettings

# The limit does not hold for those who may lock whatever they like (CAP_IPC_LOCK, bit 14).
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc = ctypes.CDLL(None)
assert libc.capget(header, sets) == 0
sets[0] &= ~(1 << 14)
assert libc.capset(header, sets) == 0
model = Model(Path(sys.argv[1]), EngineSettings(mlock=True), LibraryLog(), lambda fraction: None)
print(model.notes)
"""


def test_weights_that_cannot_be_locked_are_noted(tiny_models: TinyModels) -> None:
    """llama.cpp goes on without a word to anybody but its log."""

    def no_locked_memory() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))

    run = subprocess.run(
        [sys.executable, "-c", LOCKED, str(tiny_models.chat)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
        preexec_fn=no_locked_memory,
    )
    assert "mlock: the weights could not be locked into memory" in run.stdout


# --- the context ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CACHE_TYPES))
def test_every_type_of_cache_works(tiny_models: TinyModels, load: Load, name: str) -> None:
    model = load(tiny_models.chat)
    said = answer(model, options(cache_type_k=name, cache_type_v=name, flash_attn=True))
    assert said[:8] == answer(model)[:8]
    assert len(said) == 32


@pytest.mark.parametrize("k", ["f32", "f16", "q8_0", "iq4_nl"])
@pytest.mark.parametrize("v", ["f16", "q8_0", "q4_1"])
def test_types_of_cache_weigh_what_they_say(tiny_models: TinyModels, load: Load, k: str, v: str) -> None:
    """What admission counts for a cell is what llama.cpp keeps for it."""
    header = read_header(tiny_models.chat)  # 2 layers, a head of 32 numbers for keys and for values
    counted = estimate(header, 0, ctx_len=256, n_parallel=1, cache_type_k=k, cache_type_v=v).kv
    assert counted == 256 * 2 * 32 * (CACHE_TYPES[k].value_bytes + CACHE_TYPES[v].value_bytes)
    model = load(tiny_models.chat)
    context = LlamaContext(model, options(cache_type_k=k, cache_type_v=v, flash_attn=True))
    sizes = []
    for count in (16, 48):
        context.trim(0, 0)
        context.batch.clear()
        context.batch.add(array("i", [5] * count), 0, count, 0, 1)
        assert context.decode() == 0
        sizes.append(len(context.state(0)))
    cell = sizes[1] - sizes[0]
    context.close()
    assert 0 <= cell / 32 - counted / 256 <= 16, "and a cell's position and sequence"


@pytest.mark.parametrize(
    "changes", [{"rope_freq_base": 500.0}, {"rope_freq_scale": 0.25}, {"rope_freq_scale": 0.5, "rope_scaling": "yarn"}]
)
def test_rope_settings_reach_the_context(tiny_models: TinyModels, load: Load, changes: dict[str, object]) -> None:
    model = load(tiny_models.chat)
    assert answer(model, options(**changes)) != answer(model)


def test_rope_scaling_none_leaves_positions_as_they_are(tiny_models: TinyModels, load: Load) -> None:
    model = load(tiny_models.chat)
    assert answer(model, options(rope_freq_scale=0.25, rope_scaling="none")) == answer(model)
    assert answer(model, options(rope_freq_base=10_000.0, rope_freq_scale=1.0)) == answer(model)


# --- adapters -------------------------------------------------------------------------------------------------------


def test_an_adapter_changes_what_is_said(tiny_models: TinyModels, load: Load) -> None:
    plain = answer(load(tiny_models.chat))
    whole, half, none = (answer(load(tiny_models.chat, lora=str(tiny_models.lora), lora_scale=x)) for x in (1, 0.5, 0))
    assert len({tuple(plain), tuple(whole), tuple(half)}) == 3
    assert none == plain


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.unlink(missing_ok=True), "No such file"),
        (lambda path: path.write_bytes(b"<html>"), "not a GGUF file"),
        (lambda path: write_chat(path), "expect general.type to be 'adapter'"),
        (lambda path: write_lora(path, width=32), "incorrect shape"),
    ],
    ids=["missing", "no GGUF", "no adapter", "for another model"],
)
def test_an_adapter_that_cannot_be_used_says_why(
    tiny_models: TinyModels, load: Load, tmp_path: Path, make, reason: str
) -> None:
    make(tmp_path / "adapter.gguf")
    with pytest.raises(ModelLoadError, match=reason) as caught:
        load(tiny_models.chat, lora=str(tmp_path / "adapter.gguf"))
    assert "the adapter (settings.lora) adapter.gguf" in caught.value.message


def test_a_projector_is_noted(tiny_models: TinyModels, load: Load, tmp_path: Path) -> None:
    there, missing = tmp_path / "mmproj.gguf", tmp_path / "mmproj-missing.gguf"
    there.write_bytes(b"GGUF")
    assert load(tiny_models.chat, mmproj=str(there)).notes == (
        "mmproj: mmproj.gguf is not used, images are not served yet",
    )
    assert "the file is not there" in load(tiny_models.chat, mmproj=str(missing)).notes[0]


# --- files that cannot be served ------------------------------------------------------------------------------------


def test_a_split_model_is_one(tiny_models: TinyModels, load: Load) -> None:
    assert answer(load(tiny_models.split[0])) == answer(load(tiny_models.chat))


def test_a_missing_part_is_named(tiny_models: TinyModels, load: Load, tmp_path: Path) -> None:
    first = Path(shutil.copyfile(tiny_models.split[0], tmp_path / tiny_models.split[0].name))
    with pytest.raises(ModelLoadError, match=r"part 2 of 2, tiny-split-00002-of-00002\.gguf cannot be read: No such"):
        load(first)


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("unknown_architecture", "unknown model architecture: 'orrery': the llama.cpp of this server cannot run it"),
        ("cut_short", "corrupted or incomplete: the file is not whole, download it again"),
        ("missing_tensor", r"tensor 'blk\.1\.ffn_down\.weight' not found: the file is damaged"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(tiny_models: TinyModels, load: Load, which: str, reason: str) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        load(getattr(tiny_models, which))


# --- what serves a model --------------------------------------------------------------------------------------------


def spec(tmp_path: Path, **settings: object) -> EngineSpec:
    pinned = {"flash_attn": False, "kv_unified": True, "slice_size": 32, "cpu_threads": 1, "ctx_len": 128}
    return EngineSpec(
        model_id="tiny",
        model_path="tiny.gguf",
        socket_path="none",
        cache_dir=str(tmp_path),
        settings=EngineSettings(**{**pinned, **settings}),
    )


@pytest.mark.parametrize(
    ("which", "embedding", "generates", "width"),
    [
        ("chat", None, True, None),
        ("chat", False, True, None),
        ("chat", True, True, 64),
        ("embedding", None, False, 32),
        ("embedding", True, False, 32),
    ],
)
def test_a_model_serves_what_it_is_made_for_and_told_to(
    tiny_models: TinyModels, load: Load, tmp_path: Path, which: str, embedding: bool | None, generates: bool, width: int
) -> None:
    engine = build(load(getattr(tiny_models, which)), spec(tmp_path, embedding=embedding), lambda stage, part: None)
    assert engine.info.embedding_width == width
    assert ((engine.loop is not None), (engine.embedder is not None)) == (generates, width is not None)


@pytest.mark.parametrize(
    ("which", "reason"), [("embedding", "generates no text, it makes embeddings"), ("reranker", "ranks documents")]
)
def test_a_model_that_cannot_generate_says_so(
    tiny_models: TinyModels, load: Load, tmp_path: Path, which: str, reason: str
) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        build(load(getattr(tiny_models, which)), spec(tmp_path, embedding=False), lambda stage, part: None)


def test_an_encoder_whose_file_names_no_pooling_still_embeds(load: Load, tmp_path: Path) -> None:
    path = write_embedding(tmp_path / "plain.gguf", pooling=None)
    engine = build(load(path), spec(tmp_path), lambda stage, part: None)
    assert engine.info.embedding_width == 32
    assert "embeddings: the file names no pooling, mean is used" in engine.notes


def test_an_unknown_cache_type_is_refused(tiny_models: TinyModels, load: Load, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cache type"):
        build(load(tiny_models.chat), spec(tmp_path, cache_type_k="q9"), lambda stage, part: None)


def test_a_cache_folder_that_cannot_be_used_costs_the_kept_states_and_no_start(
    tiny_models: TinyModels, load: Load, tmp_path: Path
) -> None:
    path = Path(shutil.copyfile(tiny_models.chat, tmp_path / "tiny.gguf"))
    keeping = replace(spec(tmp_path), model_path=str(path), snapshot_bytes=1 << 20)
    good = build(load(path), keeping, lambda stage, part: None)
    assert good.loop is not None
    assert good.loop.conversations is not None
    assert good.notes == ()
    shutil.rmtree(tmp_path / "kv")
    (tmp_path / "kv").write_text("in the way")
    bad = build(load(path), keeping, lambda stage, part: None)
    assert bad.loop is not None
    assert bad.loop.conversations is None
    assert bad.notes == ("conversations are computed again after a restart: cache/kv cannot be used (File exists)",)
