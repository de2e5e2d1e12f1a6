"""The bodies of runs."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
import pytest

from janflask.schemas.runs import NewRunSchema, NewThreadAndRunSchema
from janflask.storage.records import RunDraft


def test_fields_find_their_places() -> None:
    draft = NewRunSchema().load(
        {
            "assistant_id": "jan",
            "model": None,
            "temperature": 0.5,
            "top_k": 3,
            "stop": "x",
            "max_tokens": 7,
            "truncation_strategy": {"type": "last_messages", "last_messages": 2},
            "additional_messages": [{"role": "user", "content": "hi"}],
            "response_format": "auto",
            "tools": [],
            "stream": True,
            "cancel_on_disconnect": True,
            "unknown": 1,
        }
    )
    assert (draft.assistant_id, draft.model, draft.temperature) == ("jan", None, 0.5)
    assert draft.parameters == {"top_k": 3, "stop": ("x",)}
    assert (draft.tools, draft.response_format, draft.tool_choice) == ((), "auto", None)
    assert NewRunSchema().load({"tools": None, "tool_choice": "none"}) == RunDraft(tool_choice="none")
    assert (draft.max_completion_tokens, draft.last_messages) == (7, 2)
    assert (draft.stream, draft.ends_with_client) == (True, True)
    assert [message.role for message in draft.additional_messages] == ["user"]
    assert NewRunSchema().load({"max_tokens": 7, "max_completion_tokens": 9}).max_completion_tokens == 9
    assert NewRunSchema().load({"truncation_strategy": {"type": "auto"}}).last_messages is None


def test_a_thread_comes_along() -> None:
    draft = NewThreadAndRunSchema().load({"thread": {"title": "x", "messages": [{"role": "user", "content": "hi"}]}})
    assert draft.thread is not None
    assert draft.thread.fields == {"title": "x"}
    assert NewThreadAndRunSchema().load({}).thread is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tools": [{"type": "file_search"}]}, "tools"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"response_format": "json"}, "response_format"),
        ({"tool_resources": {"file_search": {"vector_store_ids": ["v"]}}}, "tool_resources"),
        ({"n": 2}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_prompt_tokens": "9"}, "max_prompt_tokens"),
        ({"truncation_strategy": {"type": "last_messages"}}, "truncation_strategy"),
        ({"truncation_strategy": {"type": "none"}}, "truncation_strategy"),
        ({"truncation_strategy": "auto"}, "truncation_strategy"),
        ({"additional_messages": [{"role": "tool", "content": "x"}]}, "additional_messages"),
        ({"additional_messages": [{"role": "user", "content": "x"}] * 101}, "additional_messages"),
        ({"instructions": "x" * 256_001}, "instructions"),
        ({"cancel_on_disconnect": True}, "cancel_on_disconnect"),
        ({"metadata": []}, "metadata"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_is_refused(body: dict[str, Any], field: str) -> None:
    with pytest.raises(ma.ValidationError) as caught:
        NewRunSchema().load(body)
    assert isinstance(caught.value.messages, dict)
    assert list(caught.value.messages) == [field]
