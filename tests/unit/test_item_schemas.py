"""Items of a request: each kind becomes a draft, and an error names the place."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
import pytest

from janflask.schemas.items import MAX_ITEMS, Items, item_draft
from janflask.storage.items import (
    CallDraft,
    ItemReference,
    OutputDraft,
    ReasoningDraft,
    SealedDraft,
)
from janflask.storage.records import MessageDraft


def said(role: str, *texts: str) -> MessageDraft:
    content = tuple({"type": "text", "text": {"value": text, "annotations": []}} for text in texts)
    return MessageDraft(role=role, content=content)


CITED = {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 0, "end_index": 1}


@pytest.mark.parametrize(
    ("item", "draft"),
    [
        ({"role": "user", "content": "Hi"}, said("user", "Hi")),
        (
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "A"}]},
            said("developer", "A"),
        ),
        ({"type": None, "role": "user", "content": ""}, said("user", "")),
        (
            {
                "id": "msg_1",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "A", "annotations": [], "logprobs": []}],
            },
            said("assistant", "A"),
        ),
        ({"role": "assistant", "content": []}, said("assistant", "")),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}, {"type": "text", "text": "B"}]},
            MessageDraft(role="assistant", content=({"type": "refusal", "refusal": "No."}, *said("", "B").content)),
        ),
        (
            {"role": "assistant", "content": [{"type": "output_text", "text": "A", "annotations": [CITED]}]},
            MessageDraft(role="assistant", content=({"type": "text", "text": {"value": "A", "annotations": [CITED]}},)),
        ),
        (
            {
                "type": "function_call",
                "call_id": "c",
                "name": "f",
                "arguments": "{",
                "id": "fc_1",
                "status": "completed",
            },
            CallDraft("c", "f", "{"),
        ),
        (
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": 1}},
            CallDraft("c", "f", '{"a": 1}'),
        ),
        ({"type": "function_call", "call_id": "c", "name": "f"}, CallDraft("c", "f", "{}")),
        ({"type": "function_call_output", "call_id": "c", "output": ""}, OutputDraft("c", "")),
        (
            {
                "type": "function_call_output",
                "call_id": "c",
                "output": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
            },
            OutputDraft("c", "a\nb"),
        ),
        (
            {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** Begin"},
            CallDraft("c", "apply_patch", '{"input": "*** Begin"}'),
        ),
        ({"type": "custom_tool_call_output", "call_id": "c", "output": "ok"}, OutputDraft("c", "ok")),
        ({"type": "reasoning", "summary": []}, ReasoningDraft("")),
        ({"type": "reasoning", "summary": [], "encrypted_content": "x"}, SealedDraft("reasoning", "x")),
        (
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "S"}],
                "content": [{"type": "reasoning_text", "text": "A"}, {"type": "reasoning_text", "text": "B"}],
                "encrypted_content": "x",
            },
            ReasoningDraft("A\n\nB"),
        ),
        (
            {"type": "reasoning", "content": None, "summary": [{"type": "summary_text", "text": "S"}]},
            ReasoningDraft("S"),
        ),
        ({"type": "item_reference", "id": "msg_1"}, ItemReference("msg_1")),
        ({"id": "msg_1"}, ItemReference("msg_1")),
        ({"type": "compaction", "encrypted_content": "x"}, SealedDraft("compaction", "x")),
        ({"type": "compaction_summary", "encrypted_content": "x"}, SealedDraft("compaction", "x")),
    ],
)
def test_each_kind(item: dict[str, Any], draft: object) -> None:
    assert item_draft(item) == draft


@pytest.mark.parametrize(
    ("item", "place", "words"),
    [
        ("Hi", "", "must be an object"),
        ({}, "type", "not null"),
        ({"type": 5}, "type", "not a number"),
        ({"type": "computer_call_output", "call_id": "c"}, "type", "not 'computer_call_output'"),
        ({"type": "web_search_call", "id": "ws_1"}, "type", "leave it out"),
        ({"type": "message", "content": "Hi"}, "role", "must be one of user"),
        ({"role": "tool", "content": "Hi"}, "role", "'tool'"),
        ({"role": ["user"], "content": "Hi"}, "role", "must be one of"),
        ({"role": "user"}, "content", "is required"),
        ({"role": "user", "content": []}, "content", "must not be empty"),
        ({"role": "user", "content": 5}, "content", "must be a string or a list of parts"),
        ({"role": "user", "content": ["x"]}, "content.0", "must be an object"),
        (
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "A"}, {"type": "input_image", "image_url": "x"}],
            },
            "content.1.type",
            "a picture (input_image)",
        ),
        ({"role": "user", "content": [{"type": "input_file"}]}, "content.0.type", "a file"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "content.0.type", "a sound"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "content.0.text", "is required"),
        ({"role": "user", "content": [{"type": "input_text", "text": 5}]}, "content.0.text", "must be a string"),
        (
            {"role": "assistant", "content": [{"type": "output_text", "text": "A", "annotations": ["x"]}]},
            "content.0.annotations.0",
            "must be an object",
        ),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "call_id", "is required"),
        ({"type": "function_call", "call_id": "", "name": "f"}, "call_id", "1 to 256"),
        ({"type": "function_call", "call_id": "c" * 257, "name": "f"}, "call_id", "1 to 256"),
        ({"type": "function_call", "call_id": "c", "name": "f g"}, "name", "must have 1 to 128"),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": []}, "arguments", "must be a string"),
        ({"type": "function_call_output", "call_id": "c"}, "output", "must be a string or a list"),
        ({"type": "function_call_output", "output": "x"}, "call_id", "is required"),
        (
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image"}]},
            "output.0.type",
            "a picture",
        ),
        ({"type": "custom_tool_call", "call_id": "c", "name": "f"}, "input", "is required"),
        ({"type": "reasoning", "content": "Hm"}, "content", "must be a list"),
        ({"type": "reasoning", "summary": [{"type": "x"}]}, "summary.0", "reasoning_text"),
        ({"type": "reasoning", "encrypted_content": 5}, "encrypted_content", "must be a string"),
        ({"type": "item_reference"}, "id", "is required"),
        ({"type": "compaction"}, "encrypted_content", "is required"),
    ],
)
def test_what_is_wrong_is_named(item: object, place: str, words: str) -> None:
    with pytest.raises(ma.ValidationError) as caught:
        item_draft(item)
    messages: Any = caught.value.messages
    for name in filter(None, place.split(".")):
        messages = messages[int(name) if name.isdigit() else name]
    assert words in messages[0]


def test_a_list_has_a_length() -> None:
    item = {"role": "user", "content": "Hi"}
    assert len(Items().deserialize([item] * MAX_ITEMS)) == MAX_ITEMS
    with pytest.raises(ma.ValidationError, match="at most 10000 items, not 10001"):
        Items().deserialize([item] * (MAX_ITEMS + 1))
    with pytest.raises(ma.ValidationError) as caught:
        Items().deserialize([item, {}, item, 5])
    assert list(caught.value.messages) == [1, 3]  # type: ignore[arg-type]
