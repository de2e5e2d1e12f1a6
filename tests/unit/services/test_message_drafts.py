"""What is asked of the run of a message that goes on with a conversation of the store."""

from __future__ import annotations

from typing import Any

import pytest

from janflask.errors import InvalidRequestError
from janflask.inference.blocks import chat_request
from janflask.schemas.anthropic import MessagesSchema
from janflask.services.message_drafts import answer_draft
from janflask.storage.answers import AnswerDraft
from janflask.storage.items import CallDraft, OutputDraft, ReasoningDraft
from janflask.storage.records import CallPlan, MessageDraft

TOOL = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
USER = {"role": "user", "content": "Hi"}


def drafted(*messages: Any, **more: Any) -> AnswerDraft:
    body = {"model": "tiny", "max_tokens": 9, "conversation": "conv_x", "messages": list(messages) or [USER], **more}
    request = MessagesSchema().load(body)
    return answer_draft(request, chat_request(request, lambda thought: thought.text))


def test_what_is_new_as_items() -> None:
    thought = {"type": "thinking", "thinking": "Hm", "signature": "x"}
    call = {"type": "tool_use", "id": "a", "name": "look", "input": {"at": 1}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": "seen"}
    told = [{"type": "text", "text": "I look."}]
    draft = drafted(
        USER, {"role": "assistant", "content": [thought, *told, call]}, {"role": "user", "content": [result]}
    )

    def said(role: str, text: str) -> MessageDraft:
        return MessageDraft(role=role, content=({"type": "text", "text": {"value": text, "annotations": []}},))

    assert draft.input == (
        said("user", "Hi"),
        ReasoningDraft("Hm"),
        said("assistant", "I look."),
        CallDraft("a", "look", '{"at": 1}'),
        OutputDraft("a", "seen"),
    )
    assert len(draft.places) == len(draft.input)
    assert (draft.conversation, draft.model, draft.max_tokens, draft.stream) == ("conv_x", "tiny", 9, False)


def test_a_result_of_a_call_that_is_stored() -> None:
    result = {"type": "tool_result", "tool_use_id": "b", "content": "seen"}
    assert drafted({"role": "user", "content": [result]}).input == (OutputDraft("b", "seen"),)


def test_how_to_answer() -> None:
    schema = {"type": "object", "properties": {}}
    draft = drafted(
        system="Be kind.",
        temperature=0.5,
        stop_sequences=["x"],
        thinking={"type": "enabled", "budget_tokens": 7},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": schema}},
        stream=True,
    )
    assert draft.instructions == "Be kind."
    assert draft.stream
    assert draft.parameters == {
        "temperature": 0.5,
        "stop": ["x"],
        "chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "low"},
        "reasoning_budget": 7,
    }
    assert draft.response_format == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@pytest.mark.parametrize(
    ("choice", "told", "plan"),
    [
        ({"type": "auto"}, None, CallPlan()),
        ({"type": "any"}, "required", CallPlan(required=True)),
        (
            {"type": "tool", "name": "look"},
            {"type": "function", "function": {"name": "look"}},
            CallPlan(required=True, names=("look",), is_one=True),
        ),
    ],
)
def test_tools(choice: Any, told: Any, plan: CallPlan) -> None:
    draft = drafted(tools=[TOOL], tool_choice=choice)
    function = {"name": "look", "description": "Looks.", "parameters": {"type": "object"}, "strict": False}
    assert draft.tools == ({"type": "function", "function": function},)
    assert (draft.tool_choice, draft.calls) == (told, plan)
    assert drafted(tools=[TOOL], tool_choice={"type": "none"}).tools == ()


def test_the_tool_that_is_left_may_be_called_more_than_once() -> None:
    gone = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "find"}}
    messages = [USER, {"role": "system", "content": [gone]}]
    draft = drafted(*messages, tools=[TOOL, {**TOOL, "name": "find"}], tool_choice={"type": "any"})
    assert draft.parallel_tool_calls
    assert (draft.tool_choice, draft.calls) == ("required", CallPlan(required=True, names=("look",)))


@pytest.mark.parametrize(
    ("messages", "more", "place"),
    [
        ([USER, {"role": "assistant", "content": "It"}], {}, "messages"),
        ([USER], {"max_tokens": 0}, "max_tokens"),
        ([USER], {"diagnostics": {"previous_message_id": None}}, "diagnostics"),
    ],
)
def test_what_an_answer_that_is_stored_cannot_have(messages: Any, more: Any, place: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        drafted(*messages, **more)
    assert caught.value.param == place
