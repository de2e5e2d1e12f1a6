"""What a chat that is to be stored becomes: lines of a thread that a model is shown as it would be shown the chat."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
import pytest

from janflask.errors import InvalidRequestError
from janflask.inference.requests import ChatRequest
from janflask.schemas.chat import ChatRequestSchema
from janflask.services.items import drafted
from janflask.services.turns import turns_of
from janflask.storage.answers import AnswerDraft
from janflask.storage.items import Item
from janflask.storage.records import CallPlan, RunKind

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sea"}'}}
USER = {"role": "user", "content": "Hi"}
CHATS: dict[str, list[dict[str, Any]]] = {
    "words": [USER],
    "a system in place": [{"role": "system", "content": "Be brief."}, USER, {"role": "system", "content": "Be kind."}],
    "a developer": [{"role": "developer", "content": "Be brief.", "name": "Ann"}, USER],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}]}],
    "names": [{**USER, "name": "Bob"}, {"role": "assistant", "content": "Hi", "name": "Eve"}, {**USER, "name": "Al"}],
    "calls": [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
        {"role": "tool", "content": "blue", "tool_call_id": "call_1"},
        {"role": "tool", "content": "", "tool_call_id": "call_2"},
    ],
    "a call behind words and thoughts": [
        USER,
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL], "reasoning_content": "Hm."},
        {"role": "tool", "content": [{"type": "text", "text": "blue"}], "tool_call_id": "call_1"},
    ],
    "the older form": [
        USER,
        {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}},
        {"role": "function", "name": "look", "content": "blue"},
    ],
    "a refusal": [USER, {"role": "assistant", "content": "Well.", "refusal": "No."}, USER],
    "a refusal alone": [USER, {"role": "assistant", "refusal": "No.", "content": ""}, USER],
    "a refusal as a part": [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, USER],
    "the same side twice": [USER, USER, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
    "nothing": [{"role": "user", "content": ""}, {"role": "user", "content": []}],
}


def loaded(**body: Any) -> Any:
    return ChatRequestSchema().load({"model": "m", "messages": [USER], **body})


def stored(**body: Any) -> AnswerDraft:
    draft = loaded(store=True, **body)
    assert isinstance(draft, AnswerDraft)
    return draft


def nowhere(name: str) -> Item:
    raise KeyError(name)


@pytest.mark.parametrize("kind", CHATS)
def test_the_model_is_shown_the_same_turns(kind: str) -> None:
    chat, draft = loaded(messages=CHATS[kind]), stored(messages=CHATS[kind])
    assert isinstance(chat, ChatRequest)
    lines = drafted("thread_1", draft.input, draft.places, nowhere, max_bytes=1 << 20, before=())
    assert len(lines) == len(CHATS[kind])
    assert [line.role for line in lines] == [turn.role for turn in chat.messages]
    assert turns_of(lines) == chat.messages


def test_what_is_asked_for() -> None:
    function = {"name": "look", "parameters": {"type": "object"}}
    draft = stored(
        tools=[{"type": "function", "function": function}],
        tool_choice={"type": "function", "function": {"name": "look"}},
        temperature=0.5,
        seed=7,
        stop=["x"],
        max_tokens=3,
        max_completion_tokens=4,
        response_format={"type": "json_object"},
        logprobs=True,
        metadata={"a": "b"},
        stream=True,
        stream_options={"include_usage": True},
        reasoning_effort="low",
    )
    assert (draft.kind, draft.model, draft.stream, draft.store) == (RunKind.CHAT, "m", True, True)
    assert draft.tools == ({"type": "function", "function": function},)
    assert draft.calls == CallPlan(required=True, names=("look",), is_one=True)
    assert draft.parameters == {"temperature": 0.5, "seed": 7, "stop": ("x",), "reasoning_effort": "low"}
    assert (draft.max_tokens, draft.top_logprobs, draft.truncates) == (4, 0, False)
    assert (draft.response_format, draft.metadata) == ({"type": "json_object"}, {"a": "b"})
    assert draft.places == ("messages.0",)


def test_tools_that_must_not_be_called_are_none_and_functions_are_tools() -> None:
    function = {"name": "look"}
    draft = stored(tools=[{"type": "function", "function": function}], tool_choice="none")
    assert (draft.tools, draft.tool_choice) == ((), "none")
    draft = stored(functions=[function], function_call={"name": "look"})
    assert draft.tools == ({"type": "function", "function": function},)
    assert (draft.calls.required, draft.parallel_tool_calls) == (True, False)


@pytest.mark.parametrize("store", [False, None])
def test_without_store_nobody_looks_at_metadata(store: Any) -> None:
    assert isinstance(loaded(store=store, metadata=[7]), ChatRequest)


DEEP: dict[str, Any] = {}
for _ in range(40):
    DEEP = {"x": DEEP}

REFUSED: dict[str, dict[str, Any]] = {
    "n": {"n": 2},
    "add_generation_prompt": {"add_generation_prompt": False},
    "reasoning_format": {"reasoning_format": "none"},
    "metadata": {"metadata": {"k" * 65: "v"}},
    "chat_template_kwargs": {"chat_template_kwargs": {"x": 1 << 70}},
    "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "x": DEEP}}}]},
    "functions": {"functions": [{"name": "f", "description": "x" * (65 << 10)}]},
    "response_format": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": DEEP}}},
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_cannot_be_kept_is_refused_where_it_is(field: str) -> None:
    with pytest.raises(ma.ValidationError) as caught:
        stored(**REFUSED[field])
    assert list(caught.value.messages_dict) == [field]


def test_two_forms_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="together"):
        stored(regex="a", grammar='root ::= "a"')
