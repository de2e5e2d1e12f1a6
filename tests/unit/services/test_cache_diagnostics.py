"""Cache diagnostics: where two requests first differ, what is kept of them, and what a client is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from openai.types.responses import Response

from janflask.files import ids
from janflask.services import cache_diagnostics
from janflask.services.cache_diagnostics import (
    CacheDiagnostics,
    Difference,
    Fingerprint,
    Part,
    compared,
    difference,
    message_diagnostics,
    response_diagnostics,
)
from janflask.services.seals import Seals

TALK = ["first", "answer", "second"]
BASE: dict[str, Any] = {
    "model": "tiny",
    "tools": [{"name": "look"}, {"name": "find"}],
    "instructions": "be kind",
    "settings": {"enable_thinking": False},
    "messages": TALK,
    "tokens": 1000,
}


@pytest.fixture
def diagnostics(tmp_path: Path) -> CacheDiagnostics:
    return CacheDiagnostics(tmp_path / "cache", Seals(tmp_path / "secrets"))


CHANGES: list[tuple[dict[str, Any], Part | None, int | None]] = [
    ({}, None, None),
    ({"messages": [*TALK, "reply", "third"]}, None, None),
    ({"messages": TALK[:1]}, None, None),
    ({"messages": ["other"], "model": "big", "tools": []}, Part.MODEL, None),
    ({"tools": [{"name": "look"}, {"name": "seek"}], "instructions": "be quick"}, Part.TOOLS, 1),
    ({"tools": [{"name": "find"}, {"name": "look"}]}, Part.TOOLS, 0),
    ({"tools": [{"name": "look"}]}, Part.TOOLS, 1),
    ({"tools": [{"name": "look"}, {"name": "find"}, {"name": "more"}]}, Part.TOOLS, 2),
    ({"tools": []}, Part.TOOLS, 0),
    ({"instructions": None, "messages": []}, Part.INSTRUCTIONS, None),
    ({"settings": {}, "messages": []}, Part.SETTINGS, None),
    ({"messages": ["first", "Answer", "second"]}, Part.INPUT, 1),
    ({"messages": [{"role": "user"}, *TALK]}, Part.INPUT, 0),
]


@pytest.mark.parametrize(("change", "part", "place"), CHANGES, ids=range(len(CHANGES)))
def test_the_first_difference_is_found(
    diagnostics: CacheDiagnostics, change: dict[str, Any], part: Part | None, place: int | None
) -> None:
    before, now = diagnostics.fingerprint(**BASE), diagnostics.fingerprint(**BASE | change)
    found = difference(before, now)
    assert (None if found is None else (found.part, found.place)) == (None if part is None else (part, place))


def test_tokens_behind_the_difference_are_told_by_their_share(diagnostics: CacheDiagnostics) -> None:
    def of(*messages: str) -> Fingerprint:
        return diagnostics.fingerprint(model="tiny", messages=messages, tokens=1000)

    long, short = "w" * 990, "w" * 86  # and quotes; instructions and settings are null
    assert difference(of(long, short), of(long, "x")) == Difference(Part.INPUT, 1, round(1000 * 88 / (8 + 992 + 88)))
    assert difference(of(long, short), of("x", short)) == Difference(Part.INPUT, 0, round(1000 * 1080 / 1088))
    assert difference(of(long), replace(of(long), model="big")) == Difference(Part.MODEL, None, 1000)


def test_the_order_of_fields_makes_no_difference(diagnostics: CacheDiagnostics) -> None:
    one, other = ({"a": 1, "b": [{"c": 2, "d": "ü\ud800"}]}, {"b": [{"d": "ü\ud800", "c": 2}], "a": 1})
    assert diagnostics.fingerprint(model="m", tools=[one]) == diagnostics.fingerprint(model="m", tools=[other])


def test_what_is_kept_has_no_text_and_other_processes_find_it(diagnostics: CacheDiagnostics, tmp_path: Path) -> None:
    fingerprint, name = diagnostics.fingerprint(**BASE), ids.new_id(ids.MESSAGE)
    diagnostics.keep(name, fingerprint)
    other = CacheDiagnostics(tmp_path / "cache", Seals(tmp_path / "secrets"))
    assert other.kept(name) == fingerprint
    (file,) = (tmp_path / "cache" / "prompts").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any(word in file.read_text() for word in ("first", "kind", "look", "thinking"))
    # Nobody who lacks the secret can try out what a text was.
    assert not set(fingerprint.pieces) & set(CacheDiagnostics(tmp_path, Seals(tmp_path)).fingerprint(**BASE).pieces)


def test_the_newest_are_kept(diagnostics: CacheDiagnostics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_diagnostics, "MOST", 3)
    names = [ids.new_id(ids.MESSAGE) for _ in range(5)]
    for name in names:
        diagnostics.keep(name, diagnostics.fingerprint(**BASE))
    assert [diagnostics.kept(name) is not None for name in names] == [False, False, True, True, True]


def test_one_that_another_process_has_just_forgotten_is_no_trouble(
    diagnostics: CacheDiagnostics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache" / "prompts"
    folder.mkdir(parents=True)
    (folder / "msg_0.json").symlink_to(folder / "gone")  # it is listed, and not there
    diagnostics.keep("msg_1", diagnostics.fingerprint(**BASE))
    assert diagnostics.kept("msg_1") is not None
    assert not caplog.text


@pytest.mark.parametrize("name", ["", "msg_none", "../msg_1", "msg_1/../msg_2", "a" * 200, "\0", "msg_\ud800"])
def test_an_id_that_is_none_is_not_found(diagnostics: CacheDiagnostics, name: str) -> None:
    diagnostics.keep("msg_1", diagnostics.fingerprint(**BASE))
    assert diagnostics.kept(name) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model":"m","tools":0,"pieces":["a"],"lengths":[]}', b"\xff"])
def test_a_file_that_cannot_be_read_is_none(diagnostics: CacheDiagnostics, tmp_path: Path, content: bytes) -> None:
    diagnostics.keep("msg_1", diagnostics.fingerprint(**BASE))
    (tmp_path / "cache" / "prompts" / "msg_1.json").write_bytes(content)
    assert diagnostics.kept("msg_1") is None


def test_a_full_disk_fails_nothing(
    diagnostics: CacheDiagnostics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("no folder")
    diagnostics.keep("msg_1", diagnostics.fingerprint(**BASE))
    assert "the fingerprint of msg_1 cannot be kept" in caplog.text
    assert diagnostics.kept("msg_1") is None


# --- what a client is told --------------------------------------------------------------------------------------------


def told(diagnostics: CacheDiagnostics, change: dict[str, Any], prompt: int | None, cached: int | None) -> Any:
    """As OpenAI's client reads it."""
    before, now = diagnostics.fingerprint(**BASE), diagnostics.fingerprint(**BASE | change)
    raw = response_diagnostics(compared(before, now), prompt, cached)
    return read(raw) if raw else None


def read(raw: dict[str, Any]) -> Any:
    response = Response.model_validate({**RESPONSE, "prompt_cache_diagnostics": raw})
    assert response.prompt_cache_diagnostics is not None
    return response.prompt_cache_diagnostics


RESPONSE = {
    "id": "resp_1",
    "created_at": 1,
    "model": "tiny",
    "object": "response",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}


def test_a_miss_says_why_and_where(diagnostics: CacheDiagnostics) -> None:
    miss = told(diagnostics, {"messages": ["first", "Answer", "second", "more"]}, 1200, 400)
    assert (miss.type, miss.reason, miss.cache_missed_tokens) == ("cache_miss", "input_changed", 800)
    assert miss.first_difference == "input.1"
    assert 0 < miss.comparison_reusable_tokens < 1000
    assert told(diagnostics, {"tools": []}, 900, 3).reason == "tools_changed"
    assert told(diagnostics, {"settings": {}}, 900, 3).reason == "reasoning_effort_changed"
    assert told(diagnostics, {"instructions": "x"}, 900, 3).reason == "input_changed"
    assert told(diagnostics, {"instructions": "x"}, 900, 3).first_difference == "instructions"
    model = told(diagnostics, {"model": "big"}, 900, 899)  # another request of that model's
    assert (model.reason, model.comparison_reusable_tokens) == ("model_changed", 0)


def test_what_was_found_computed_counts(diagnostics: CacheDiagnostics) -> None:
    more = {"messages": [*TALK, "reply", "third"]}
    assert told(diagnostics, more, 1200, 1000).type == "cache_hit"
    assert told(diagnostics, more, 1200, 990).type == "cache_hit"  # templates write the begin of an answer otherwise
    assert told(diagnostics, more, 1200, 0).type == "unavailable"  # its state is gone
    assert told(diagnostics, {}, 1000, 999).type == "cache_hit"
    assert told(diagnostics, {"messages": ["x"]}, 1200, 1000).type == "cache_hit"  # there was another one like it
    assert told(diagnostics, {"messages": ["x"]}, 1200, 998).type == "cache_miss"
    assert told(diagnostics, more, None, None) is None


def test_nothing_to_compare_with_and_a_summary_are_told(diagnostics: CacheDiagnostics) -> None:
    before, now = diagnostics.fingerprint(**BASE), diagnostics.fingerprint(**BASE | {"messages": ["x"]})
    gone = response_diagnostics(compared(None, now), None, None)
    assert gone is not None
    assert read(gone).type == "comparison_response_not_found"
    raw = response_diagnostics(compared(before, now, is_compacted=True), 500, 10)
    assert raw is not None
    assert read(raw).reason == "context_compacted"


def message(raw: dict[str, Any] | None) -> Any:
    """As Anthropic's client reads it."""
    whole = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [],
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "diagnostics": raw,
    }
    return AnthropicMessage.model_validate(whole).diagnostics


@pytest.mark.parametrize(
    ("change", "kind", "place"),
    [
        ({"model": "big"}, "model_changed", "model"),
        ({"tools": []}, "tools_changed", "tools.0"),
        ({"instructions": "x"}, "system_changed", "system"),
        ({"messages": ["first", "x", "second"]}, "messages_changed", "messages.1"),
        ({"settings": {}}, "unavailable", "settings"),
    ],
)
def test_a_message_is_told_the_same(
    diagnostics: CacheDiagnostics, change: dict[str, Any], kind: str, place: str
) -> None:
    before, now = diagnostics.fingerprint(**BASE), diagnostics.fingerprint(**BASE | change)
    reason = message(message_diagnostics(before, now)).cache_miss_reason
    assert (reason.type, reason.first_difference) == (kind, place)
    if kind != "unavailable":
        assert 0 < reason.cache_missed_input_tokens <= 1000


def test_a_message_that_goes_on_has_none_and_one_without_a_record_says_so(diagnostics: CacheDiagnostics) -> None:
    now = diagnostics.fingerprint(**BASE)
    assert message_diagnostics(now, diagnostics.fingerprint(**BASE | {"messages": [*TALK, "x"]})) is None
    assert message(message_diagnostics(None, now)).cache_miss_reason.type == "previous_message_not_found"
