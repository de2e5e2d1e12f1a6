"""A KV state's fingerprint: whatever may change its numbers changes it, and nothing else does."""

from __future__ import annotations

import os
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest

from janflask.engine import fingerprint as module
from janflask.engine.context import ContextOptions
from janflask.engine.fingerprint import NEUTRAL, ROOM, content, fingerprint
from janflask.models.engine_settings import EngineSettings

OPTIONS = ContextOptions(
    ctx_len=1024, n_seq=2, kv_cells=2048, flash_attn=False, kv_unified=False, cpu_threads=2, batch_size=256
)
# A value for every setting that is not its default. A new setting has to be named here, and is one that counts
# unless it is in NEUTRAL.
OTHER = {
    "ctx_len": 512,
    "n_parallel": 3,
    "cpu_threads": 7,
    "ngl": 4,
    "flash_attn": True,
    "kv_unified": True,
    "slice_size": 32,
    "kv_cells": 999,
    "cache_type_k": "q8_0",
    "cache_type_v": "q8_0",
    "mmap": False,
    "mlock": True,
    "rope_freq_base": 500.0,
    "rope_freq_scale": 0.5,
    "rope_scaling": "yarn",
    "lora": None,  # see below
    "lora_scale": 0.5,
    "mmproj": "see.gguf",
    "embedding": True,
    "prefix_cache": False,
    "drafts": 4,
    "queue_limit": 1,
    "use_extra_bufts": False,
    "start_timeout": 1.0,
    "reproducible": True,
}
OTHER_OPTIONS = {
    "ctx_len": 512,
    "n_seq": 3,
    "kv_cells": 4096,
    "flash_attn": True,
    "kv_unified": True,
    "cpu_threads": 1,
    "batch_size": 64,
    "cache_type_k": "q8_0",
    "cache_type_v": "q8_0",
    "rope_freq_base": 500.0,
    "rope_freq_scale": 0.5,
    "rope_scaling": "yarn",
}


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(range(256)) * 16)
    return path


def mark(path: Path, settings: EngineSettings | None = None, options: ContextOptions = OPTIONS) -> str:
    return fingerprint(path, settings or EngineSettings(), options)


def test_every_setting_is_known_to_count_or_not() -> None:
    names = {field.name for field in fields(EngineSettings)}
    assert OTHER.keys() == names, "name the new setting in OTHER, and in NEUTRAL if no number depends on it"
    assert names >= NEUTRAL
    assert OTHER_OPTIONS.keys() == {field.name for field in fields(ContextOptions)}


@pytest.mark.parametrize("name", sorted(OTHER.keys() - {"lora"}))
def test_settings_count_unless_they_are_neutral(gguf: Path, name: str) -> None:
    changed = mark(gguf, replace(EngineSettings(), **{name: OTHER[name]}))
    assert (changed == mark(gguf)) is (name in NEUTRAL)


@pytest.mark.parametrize("name", sorted(OTHER_OPTIONS))
def test_the_context_counts_as_it_was_made(gguf: Path, name: str) -> None:
    assert mark(gguf, options=other_options(name)) != mark(gguf)


@pytest.mark.parametrize("name", sorted(OTHER_OPTIONS))
def test_how_long_a_conversation_may_be_counts_only_where_numbers_follow_it(gguf: Path, name: str) -> None:
    before, now = (fingerprint(gguf, EngineSettings(), made, by_room=False) for made in (OPTIONS, other_options(name)))
    assert (before == now) is (name in ROOM)


def other_options(name: str) -> ContextOptions:
    return replace(OPTIONS, **{name: OTHER_OPTIONS[name]})


def overwrite(path: Path, place: int) -> None:
    """Another byte there, the size and the time as before."""
    about = path.stat()
    with path.open("r+b") as file:
        file.seek(place)
        old = file.read(1)
        file.seek(place)
        file.write(bytes([old[0] ^ 1]))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize("place", [5, 2000, 4099])
def test_another_file_of_the_same_size_and_time_counts(gguf: Path, place: int) -> None:
    before = mark(gguf)
    overwrite(gguf, place)
    assert mark(gguf) != before


def test_a_file_that_was_written_again_counts(gguf: Path) -> None:
    before = mark(gguf)
    os.utime(gguf, (1, 1))
    assert mark(gguf) != before


def test_where_a_model_lies_does_not_count(gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert mark(Path(shutil.copy2(gguf, tmp_path / "elsewhere" / "renamed.gguf"))) == mark(gguf)


def test_every_part_of_a_split_model_counts(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    for part in parts:
        part.write_bytes(b"GGUF" + part.name.encode())
    before = mark(parts[0])
    overwrite(parts[1], 4)
    assert mark(parts[0]) != before


def test_an_adapter_counts_by_what_is_in_it(gguf: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.gguf"
    adapter.write_bytes(b"GGUF adapter")
    with_one = EngineSettings(lora=str(adapter))
    before = mark(gguf, with_one)
    assert before != mark(gguf)
    copy = shutil.copy2(adapter, tmp_path / "the same.gguf")
    assert mark(gguf, EngineSettings(lora=str(copy))) == before
    overwrite(adapter, 7)
    assert mark(gguf, with_one) != before
    with pytest.raises(FileNotFoundError):
        mark(gguf, EngineSettings(lora=str(tmp_path / "missing")))


def test_the_library_counts(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = mark(gguf)
    for name, value in {
        "LLAMA_VERSION": "llama-cpp-python 9.9.9",
        "gpus": lambda ggml: [{"name": "CUDA0", "description": "NVIDIA H200", "free": 1, "total": 2}],
        "content": lambda file: "another build" if file.suffix == ".so" else content(file),
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert mark(gguf) != before, name
    with monkeypatch.context() as patch:
        patch.setattr(module.lib, "llama_print_system_info", lambda: b"CPU : SSE3 = 1")
        assert mark(gguf) != before
    assert mark(gguf) == before


def test_a_large_file_is_known_by_its_ends_and_what_lies_between(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "WHOLE", 1 << 10)
    monkeypatch.setattr(module, "BLOCK", 16)
    path = tmp_path / "large"
    path.write_bytes(bytes(16 * 1024))
    seen = {content(path)}
    for place in (0, 15, 16 * 1024 - 1, 16 * 1024 - 16, 128 * (16 * 1024 - 16) // 255):
        overwrite(path, place)
        seen.add(content(path))
    assert len(seen) == 6
    path.write_bytes(bytes(16 * 1024 + 1))
    assert content(path) not in seen


def test_files_that_were_looked_at_beforehand_make_the_same(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = mark(gguf)
    module.begin(gguf, EngineSettings())
    for begun in list(module._begun.values()):
        begun.result()
    with monkeypatch.context() as patch:
        patch.setattr(module, "content", lambda file: "looked at again")
        assert mark(gguf) == expected
    assert module._begun == {}, "once: the next one looks for itself"
    overwrite(gguf, 0)
    assert mark(gguf) != expected


def test_what_cannot_be_looked_at_is_told_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.begin(tmp_path / "nothing.gguf", EngineSettings())
    with pytest.raises(FileNotFoundError):
        mark(tmp_path / "nothing.gguf")
    monkeypatch.setattr(module.llama_cpp, "__file__", str(tmp_path / "nowhere" / "__init__.py"))
    module.begin(tmp_path / "nothing.gguf", EngineSettings())
    module._begun.clear()
