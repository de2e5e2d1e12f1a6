"""Jan's files as records, and back: nothing that somebody wrote is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from janflask.errors import StoreDamagedError
from janflask.storage.jan import (
    decode_object,
    encode_message,
    encode_thread,
    message_from_json,
    message_to_json,
    millis,
    thread_from_json,
    thread_to_json,
)

JAN_THREAD: dict[str, Any] = {
    "title": "A talk",
    "assistants": [
        {
            "assistant_id": "jan",
            "assistant_name": "Jan",
            "model": {"id": "tinyllama-1.1b", "settings": {}, "parameters": {}, "engine": "nitro"},
            "tools": [{"type": "retrieval"}],
        }
    ],
    "id": "jan_1717666232",
    "created": 1717666232000,
    "updated": 1717666232001,
    "isFinishInit": True,
}
JAN_MESSAGE: dict[str, Any] = {
    "id": "01HZPKMAT2GANGVWPM4W78SW41",
    "thread_id": "jan_1717666232",
    "role": "user",
    "status": "ready",
    "created": 1717671963458,
    "updated": 1717671963458,
    "object": "thread.message",
    "content": [{"type": "text", "text": {"value": "test", "annotations": []}}],
    "session_id": "s1",
}


def test_a_thread_of_jan_says_the_same_when_it_was_written_again() -> None:
    thread = thread_from_json(JAN_THREAD, "jan_1717666232")
    assert (thread.created_ms, thread.updated_ms, thread.title) == (1717666232000, 1717666232001, "A talk")
    assert thread.assistants[0].model["id"] == "tinyllama-1.1b"
    assert thread.extra == {"isFinishInit": True}
    written = decode_object(encode_thread(thread), "it")
    assert {name: written[name] for name in JAN_THREAD} == JAN_THREAD


def test_a_message_of_jan_says_the_same_when_it_was_written_again() -> None:
    message = message_from_json(JAN_MESSAGE, "jan_1717666232")
    assert (message.created_ms, message.status, message.text) == (1717671963458, "completed", "test")
    line = encode_message(message)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    written = json.loads(line)
    assert {name: written[name] for name in JAN_MESSAGE} == JAN_MESSAGE


WRONG: list[Any] = [None, 5, "text", True, [], {}, [1, "x", None], {"a": 1}, -1, 1e300]


@pytest.mark.parametrize("value", WRONG, ids=str)
@pytest.mark.parametrize("name", sorted({*thread_to_json(thread_from_json(JAN_THREAD, "x")), "settings", "model_id"}))
def test_a_thread_with_any_field_of_any_type_is_read_and_loses_nothing(name: str, value: Any) -> None:
    raw = JAN_THREAD | {name: value}
    thread = thread_from_json(raw, "jan_1717666232", default_ms=1717666232000)
    written = thread_to_json(thread)
    if value and name not in ("id", "object", "created", "updated"):
        assert written[name] == value or (name == "assistants" and value == [1, "x", None])
    assert written["id"] == "jan_1717666232"
    assert encode_thread(thread_from_json(written, "jan_1717666232")) == encode_thread(thread)


@pytest.mark.parametrize("value", WRONG, ids=str)
@pytest.mark.parametrize("name", [*JAN_MESSAGE, "file_ids", "attachments", "metadata", "run_id", "completed_at"])
def test_a_message_with_any_field_of_any_type_is_read(name: str, value: Any) -> None:
    message = message_from_json(JAN_MESSAGE | {name: value}, "t", 30)
    written = message_to_json(message)
    assert written["thread_id"] == "t"
    assert written["id"]
    assert isinstance(message.text, str)
    assert isinstance(message.files, tuple)
    assert message_to_json(message_from_json(written, "t", 30)) == written


@pytest.mark.parametrize("name", ["created", "created_at"])
@pytest.mark.parametrize("value", [1717666232000, 1717666232, "1717666232", "1717666232000", 1717666232.0])
def test_times_in_any_unit_and_under_either_name(name: str, value: Any) -> None:
    raw = {key: JAN_THREAD[key] for key in ("title", "assistants")} | {name: value}
    assert thread_from_json(raw, "x").created_ms == 1717666232000
    assert message_from_json(raw, "x").created_ms == 1717666232000


@pytest.mark.parametrize("value", [None, "soon", True, [], -5, 5, 1e400, float("nan"), "nan", "inf"])
def test_what_is_no_time(value: Any) -> None:
    assert millis({"created": value}, "created") == 0


@pytest.mark.parametrize(
    ("jans", "ours"),
    [("ready", "completed"), ("pending", "in_progress"), ("stopped", "incomplete"), ("error", "incomplete")],
)
def test_the_status_of_a_message(jans: str, ours: str) -> None:
    message = message_from_json(JAN_MESSAGE | {"status": jans}, "t")
    assert message.status == ours
    assert message_to_json(message)["status"] == jans
    assert message_from_json({"status": ours}, "t").status == ours


@pytest.mark.parametrize("details", [None, {}, {"reason": None}, {"reason": "error"}, {"reason": "n_ctx"}, 5])
def test_an_error_is_known_by_its_status(details: Any) -> None:
    raw = JAN_MESSAGE | {"role": "assistant", "status": "error", "incomplete_details": details}
    message = message_from_json(raw, "t")
    assert message.is_error
    written = message_to_json(message)
    assert written["status"] == "error"
    assert message_from_json(written, "t").is_error
    assert not message_from_json(raw | {"status": "stopped", "incomplete_details": None}, "t").is_error


def test_content_that_is_only_text() -> None:
    assert message_from_json({"content": ["hello", {"type": "text", "text": "you"}]}, "t").text == "hello\nyou"
    assert message_from_json({"content": "hello"}, "t").text == "hello"
    assert message_from_json({"content": [{"type": "text", "text": "hello"}]}, "t").text == "hello"


def test_the_files_of_a_message() -> None:
    message = message_from_json(
        {
            "file_ids": ["file-1", 5],
            "attachments": [{"file_id": "file-2"}, {"file_id": "file-1"}, {"tools": []}],
            "content": [{"type": "image_file", "image_file": {"file_id": "file-3"}}, {"type": "image_file"}],
        },
        "t",
    )
    assert message.files == ("file-1", "file-2", "file-3")


def test_the_place_of_what_is_no_utf_8_is_counted_from_the_beginning() -> None:
    with pytest.raises(StoreDamagedError, match=r"it is not JSON: it is not UTF-8 \(invalid start byte, byte 14\)"):
        decode_object(b'{"id": "xyz","\xff": 1}', "it")
