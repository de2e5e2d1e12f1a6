"""A model's card: its lines, the name of its template, and the memory that it would need."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from janflask.cli.card import budget, context_lengths, print_memory, print_model, template_name
from janflask.models.card import ModelCard
from janflask.models.catalog import ModelCatalog
from janflask.models.default_layout import layout_note
from janflask.models.gguf_header import GgufHeader, read_header
from janflask.models.memory_estimate import in_gib
from janflask.settings import Settings
from janflask.supervisor import machine_memory
from janflask.supervisor.machine_memory import limits
from tests.models.tiny import TinyModels, install, write_chat

HEADER = GgufHeader(
    version=3,
    tensor_count=1,
    parameter_count=1,
    pairs={
        "general.architecture": "llama",
        "llama.context_length": 131_072,
        "llama.block_count": 32,
        "llama.embedding_length": 4096,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": 8,
        "llama.feed_forward_length": 14_336,
        "tokenizer.ggml.tokens": 128_256,
    },
)


def model_card(**settings: Any) -> ModelCard:
    return ModelCard(
        id="big",
        name="Big",
        path=None,
        size_bytes=4_900_000_000,
        created=0,
        settings=settings,
        parameters={},
        metadata={},
        raw={},
    )


def memory(settings: Settings, **own: Any) -> list[list[str]]:
    out = Console(file=io.StringIO(), width=200, markup=False)
    print_memory(model_card(**own), HEADER, settings, out)
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [re.split(r"\s{2,}", line.strip()) for line in lines]


def test_the_memory_at_several_contexts() -> None:
    rows = memory(Settings(data_dir=Path(), memory_budget_gb=12))
    assert rows[0] == ["CONTEXT", "1 CONVERSATION", "8 AT ONCE"]
    assert [row[0] for row in rows[1:-1]] == ["2048", "8192 *", "32768", "131072"]
    one = [float(row[1].split()[0]) for row in rows[1:4]]
    assert one == sorted(one)
    assert 5 < one[0] < 7, "the weights and a little"
    too_much = [[cell.endswith("(too much)") for cell in row[1:]] for row in rows[1:-1]]
    assert too_much == [[False, False], [False, True], [False, True], [True, True]]
    assert rows[-1][0].startswith("Estimates; * as it is set. Models may take 12.0 GiB together here")


def test_the_star_is_at_the_length_that_a_start_gets_where_memory_is_free() -> None:
    """8 conversations of 131072 tokens take 136.9 GiB, of 65536 70.8, of 32768 37.8, of 16384 21.3."""
    for gib, starred in ((300, "131072"), (270, "65536"), (80, "32768"), (44, "16384"), (42, "8192")):
        rows = memory(Settings(data_dir=Path(), memory_budget_gb=gib))
        assert [row[0] for row in rows if row[0].endswith(" *")] == [f"{starred} *"]
    rows = memory(Settings(data_dir=Path(), memory_budget_gb=300), ctx_len=8192)
    assert [row[0] for row in rows if row[0].endswith(" *")] == ["8192 *"]


def test_the_models_own_settings_count() -> None:
    plain = memory(Settings(data_dir=Path()), n_parallel="2", ctx_len=4096)
    assert plain[0][2] == "2 AT ONCE"
    assert [row[0] for row in plain[1:-1]] == ["2048", "4096 *", "8192", "32768", "131072"]
    small = memory(Settings(data_dir=Path()), n_parallel=2, ctx_len=4096, cache_type_k="q8_0", cache_type_v="q8_0")
    assert float(small[4][2].split()[0]) < float(plain[4][2].split()[0])


def test_one_conversation_at_a_time_is_one_column() -> None:
    assert memory(Settings(data_dir=Path(), n_parallel=1))[0] == ["CONTEXT", "1 CONVERSATION"]


def test_settings_that_cannot_be_used_are_told() -> None:
    (row,) = memory(Settings(data_dir=Path()), ctx_len="much")
    assert row[0].startswith("What memory it would need cannot be told: settings.ctx_len")


@pytest.mark.parametrize(
    ("trained", "usual", "lengths"),
    [
        (512, 512, [512]),
        (8192, 8192, [2048, 8192]),
        (40_960, 8192, [2048, 8192, 32_768, 40_960]),
        (2048, 4096, [2048, 4096]),
        (None, 8192, [2048, 8192]),
    ],
)
def test_context_lengths(trained: int | None, usual: int, lengths: list[int]) -> None:
    assert context_lengths(trained, usual) == lengths


def test_the_budget_is_what_the_supervisor_would_hand_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_memory, "usable_ram", lambda: 10_000)
    monkeypatch.setattr(machine_memory, "usable_vram", lambda: 0)
    assert budget(limits(Settings(data_dir=Path()))) == 8000
    assert budget(limits(Settings(data_dir=Path(), memory_budget_gb=2))) == 2 << 30
    monkeypatch.setattr(machine_memory, "usable_vram", lambda: 5_000)
    assert budget(limits(Settings(data_dir=Path()))) == 4000


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{% for m in messages %}<|im_start|>{{ m.role }}", "ChatML"),
        ("<|start_header_id|>", "Llama 3"),
        ("### User:\n{prompt}\n### Assistant:", "### User: {prompt} ### Assistant:"),
        ("x" * 200, "x" * 100 + "…"),
        ("  ", None),
        (None, None),
        (7, None),
    ],
)
def test_template_names(template: object, name: str | None) -> None:
    assert template_name(template) == name


def shown(model: dict[str, Any], card: ModelCard | None = None) -> dict[str, str]:
    out = Console(file=io.StringIO(), width=200, markup=False)
    print_model(model, out, card)
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return {parts[0]: parts[1] for line in lines if len(parts := re.split(r"\s{2,}", line.strip())) > 1}


def test_what_the_description_lacks_is_read_from_the_file(tmp_path: Path, tiny_models: TinyModels) -> None:
    install(tmp_path, "tiny", tiny_models.chat)
    (card,) = ModelCatalog(tmp_path / "models").list()
    header = read_header(tiny_models.chat)
    lines = shown({"id": "tiny"}, card)
    assert (lines["architecture"], lines["quantization"], lines["template"]) == ("llama", "F32", "ChatML")
    assert lines["parameters"] == str(header.parameter_count)
    assert lines["trained for"] == f"{header.context_length} tokens"
    assert lines["CONTEXT"] == "1 CONVERSATION"
    assert lines[f"{header.context_length} *"].endswith("MiB")


def test_a_prompt_template_of_the_settings_is_the_template() -> None:
    settings = {"prompt_template": "<|user|>\n{prompt}<|assistant|>", "ctx_len": 512}
    lines = shown({"id": "x", "settings": settings})
    assert (lines["template"], lines["settings"]) == ("Zephyr", "ctx_len=512")


@pytest.mark.parametrize(
    ("words", "used"),
    [(("<|im_start|>", "<|im_end|>"), "ChatML, whose words its vocabulary has"), (("<a>", "<b>"), "plain text")],
)
def test_a_model_without_a_template(tmp_path: Path, words: tuple[str, str], used: str) -> None:
    install(tmp_path, "base", write_chat(tmp_path / "base.gguf", template=None, turn_words=words))
    (card,) = ModelCatalog(tmp_path / "models").list()
    lines = shown({"id": "base"}, card)
    assert lines["template"].startswith(f"none: {used}")
    assert lines["note"].startswith("its file has no chat template")
    out = Console(file=io.StringIO(), width=400, markup=False)
    print_model({"id": "base", "notes": [layout_note(words[0] == "<|im_start|>")]}, out, card)
    told: str = out.file.getvalue()  # type: ignore[attr-defined]
    assert told.count("its file has no chat template") == 1, "its engine has told it already"
    own = shown({"id": "base", "settings": {"prompt_template": "<|user|>{prompt}"}}, card)
    assert (own["template"], "note" in own) == ("Zephyr", False)


def test_an_embedding_model_needs_no_template(tmp_path: Path, tiny_models: TinyModels) -> None:
    install(tmp_path, "embed", tiny_models.embedding)
    (card,) = ModelCatalog(tmp_path / "models").list()
    lines = shown({"id": "embed"}, card)
    assert "template" not in lines
    assert "note" not in lines


def test_a_download_is_told() -> None:
    download = {"stage": "failed", "transferred": 5_000_000, "total": 10_000_000, "error": "404 Not Found"}
    lines = shown({"id": "x", "status": "not_downloaded", "source_url": "hf:a/b:Q8_0", "download": download})
    assert (lines["source"], lines["download"]) == ("hf:a/b:Q8_0", "failed, 5.0 MB of 10.0 MB")
    assert lines["download error"] == "404 Not Found"


def test_the_card_and_the_log_tell_the_budget_alike(caplog: pytest.LogCaptureFixture) -> None:
    """One unit for memory, that of the setting, and the same digits."""
    with caplog.at_level("INFO", "janflask.supervisor.machine_memory"):
        found = limits(Settings(memory_budget_gb=18.8))
    assert in_gib(found.ram + found.vram) == "18.8 GiB"
    assert "18.8 GiB" in caplog.text
    assert [in_gib(size) for size in (0, 302 << 20, (1 << 30) - 1, 1 << 30)] == [
        "0 MiB",
        "302 MiB",
        "1024 MiB",
        "1.0 GiB",
    ]
