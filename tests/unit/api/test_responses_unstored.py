"""Responses that are not stored, driven by the official SDK and parsed by its own types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from flask.testing import FlaskClient
from openai.types.responses import ResponseCustomToolCall, ResponseFunctionToolCall, ResponseReasoningItem

from janflask.errors import ContextLengthExceededError, EngineCrashedError, EngineError
from janflask.ipc.messages.engine import Chunk, Finished, Started
from janflask.parsing.deltas import TokenLogprob, TopLogprob
from tests.fakes.scripted import DONE, Conversation, say
from tests.unit.api.conftest import World
from tests.unit.api.responses import (
    CALLED,
    FUNCTION,
    LINE,
    THINKING,
    THOUGHT,
    WORDS,
    checked,
    files,
    kinds,
    layout,
    strict,
)

ASKED: dict[str, Any] = {"model": "tiny", "input": "Hi", "store": False}
BEGUN = ["created", "in_progress"]
THOUGHTS = [
    "output_item.added",
    "content_part.added",
    "reasoning_text.delta",
    "reasoning_text.done",
    "content_part.done",
    "output_item.done",
]
CALL = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
TOKEN = TokenLogprob(" caf", b" caf", -0.5, 5, (TopLogprob(" caf", b" caf", -0.5, 5), TopLogprob(" x", b" x", -2.0, 6)))


@pytest.fixture
def _qwen(world: World, llama_templates: Path) -> None:
    layout(world, (llama_templates / "Qwen-Qwen2.5-7B-Instruct.jinja").read_text())


def test_an_answer(sdk: openai.OpenAI, world: World) -> None:
    before = files(world)
    answer = strict(
        sdk.responses.create(**ASKED, instructions="Be brief.", max_output_tokens=9, temperature=0.5, user="me")
    )
    assert (answer.status, answer.output_text, answer.error, answer.incomplete_details) == (
        "completed",
        "Hello world",
        None,
        None,
    )
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (7, 3, 10)
    assert answer.usage.input_tokens_details.cached_tokens == 4
    assert (answer.instructions, answer.max_output_tokens, answer.temperature, answer.user) == (
        "Be brief.",
        9,
        0.5,
        "me",
    )
    asked = world.engine.requests[0]
    assert str(asked.prompt).endswith("[system] Be brief.\n[user] Hi\n[assistant] ")
    assert (asked.max_tokens, asked.sampling.temperature) == (9, 0.5)
    assert (asked.conversation, asked.keep_state) == (None, False)
    assert files(world) == before, "nothing is left on the disk"


def test_a_named_prefix_may_be_kept(sdk: openai.OpenAI, world: World) -> None:
    sdk.responses.create(**ASKED, prompt_cache_key="mine")
    assert world.engine.requests[0].keep_state


def test_a_stream_of_words(sdk: openai.OpenAI) -> None:
    with sdk.responses.stream(**ASKED) as stream:
        events = checked(stream)
        final = strict(stream.get_final_response())
    assert kinds(events) == [*BEGUN, *WORDS, "completed"]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Hello world"
    assert final.output_text == "Hello world"
    assert final.usage is not None
    assert events[0].response.status == events[1].response.status == "in_progress"
    ids = {event.item_id for event in events if hasattr(event, "item_id")}
    assert ids == {event.item.id for event in events if hasattr(event, "item")} == {final.output[0].id}


def test_a_raw_stream_has_the_types_of_the_sdk(sdk: openai.OpenAI) -> None:
    assert kinds(checked(sdk.responses.create(**ASKED, stream=True))) == [*BEGUN, *WORDS, "completed"]


def test_thoughts_come_as_an_item_of_their_own(sdk: openai.OpenAI, world: World) -> None:
    layout(world, THINKING)
    world.engine.script = say(*THOUGHT)
    answer = strict(sdk.responses.create(**ASKED, reasoning={"effort": "low", "summary": "auto"}))
    thought, message = answer.output
    assert isinstance(thought, ResponseReasoningItem)
    assert thought.content is not None
    assert (thought.content[0].text, message.type, answer.output_text) == ("Hm, so", "message", "Hello!")
    assert answer.reasoning is not None
    assert (answer.reasoning.effort, answer.reasoning.summary) == ("low", "auto")
    with sdk.responses.stream(**ASKED) as stream:
        events = checked(stream)
        final = stream.get_final_response()
    assert kinds(events) == [*BEGUN, *THOUGHTS, *WORDS, "completed"]
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert [event.output_index for event in events if event.type == "response.output_item.added"] == [0, 1]


@pytest.mark.usefixtures("_qwen")
def test_calls_end_an_answer(sdk: openai.OpenAI, world: World) -> None:
    world.engine.script = say("I look.\n", CALLED, "\n", LINE % ("get_weather", "place", "Rome"))
    answer = strict(sdk.responses.create(**ASKED, tools=[FUNCTION]))
    message, first, second = answer.output
    assert isinstance(first, ResponseFunctionToolCall)
    assert isinstance(second, ResponseFunctionToolCall)
    assert (answer.status, message.type, answer.output_text) == ("completed", "message", "I look.")
    assert [json.loads(call.arguments) for call in (first, second)] == [{"place": "Paris"}, {"place": "Rome"}]
    assert len({first.call_id, second.call_id, first.id, second.id}) == 4
    with sdk.responses.stream(**ASKED, tools=[FUNCTION]) as stream:
        events = checked(stream)
        final = stream.get_final_response()
    calls = [item for item in final.output if item.type == "function_call"]
    assert [call.parsed_arguments for call in calls] == [{"place": "Paris"}, {"place": "Rome"}]
    assert kinds(events)[-1] == "completed"
    done = [event.arguments for event in events if event.type == "response.function_call_arguments.done"]
    assert [json.loads(arguments) for arguments in done] == [{"place": "Paris"}, {"place": "Rome"}]


@pytest.mark.usefixtures("_qwen")
def test_one_call_and_nothing_else(sdk: openai.OpenAI, world: World) -> None:
    world.engine.script = say(CALLED)
    with sdk.responses.stream(**ASKED, tools=[FUNCTION]) as stream:
        events = checked(stream)
        assert [item.type for item in stream.get_final_response().output] == ["function_call"]
    assert kinds(events) == [*BEGUN, *CALL, "completed"]


@pytest.mark.usefixtures("_qwen")
def test_calls_and_their_outputs_are_shown(sdk: openai.OpenAI, world: World) -> None:
    world.engine.script = say(CALLED)
    first = sdk.responses.create(**ASKED, tools=[FUNCTION])
    call = first.output[0]
    assert isinstance(call, ResponseFunctionToolCall)
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    items: Any = [{"role": "user", "content": "Hi"}, *[item.to_dict() for item in first.output], output]
    world.engine.script = say("It is sunny.")
    answer = sdk.responses.create(**{**ASKED, "input": items}, tools=[FUNCTION])
    assert answer.output_text == "It is sunny."
    shown = str(world.engine.requests[-1].prompt)
    assert CALLED in shown
    assert "<tool_response>\nsunny\n</tool_response>" in shown


@pytest.mark.usefixtures("_qwen")
def test_functions_in_a_namespace(sdk: openai.OpenAI, world: World) -> None:
    space: Any = {
        "type": "namespace",
        "name": "agents",
        "description": "Agents.",
        "tools": [{**FUNCTION, "name": "spawn"}],
    }
    world.engine.script = say(LINE % ("agents__spawn", "place", "x"))
    answer = strict(sdk.responses.create(**ASKED, tools=[space]))
    call = answer.output[0]
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, call.namespace) == ("spawn", "agents")
    with sdk.responses.stream(**ASKED, tools=[space]) as stream:
        final = stream.get_final_response()
    assert final.output[0].to_dict()["parsed_arguments"] == {"place": "x"}
    items: Any = [
        {"role": "user", "content": "Hi"},
        call.to_dict(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "ok"},
    ]
    sdk.responses.create(**{**ASKED, "input": items}, tools=[space])
    assert '{"name": "agents__spawn", "arguments"' in str(world.engine.requests[-1].prompt)


@pytest.mark.usefixtures("_qwen")
def test_a_custom_tool(sdk: openai.OpenAI, world: World) -> None:
    tool: Any = {"type": "custom", "name": "patch", "description": "A patch."}
    world.engine.script = say(LINE % ("patch", "input", "*** Begin"))
    answer = strict(sdk.responses.create(**ASKED, tools=[tool], tool_choice={"type": "custom", "name": "patch"}))
    call = answer.output[0]
    assert isinstance(call, ResponseCustomToolCall)
    assert (call.name, call.input) == ("patch", "*** Begin")
    with sdk.responses.stream(**ASKED, tools=[tool]) as stream:
        events = checked(stream)
        assert stream.get_final_response().output[0].type == "custom_tool_call"
    assert kinds(events)[2:-1] == [
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
    ]
    items: Any = [
        {"role": "user", "content": "Hi"},
        call.to_dict(),
        {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "ok"},
    ]
    sdk.responses.create(**{**ASKED, "input": items}, tools=[tool])
    assert '{"name": "patch", "arguments": {"input": "*** Begin"}}' in str(world.engine.requests[-1].prompt)


@pytest.mark.usefixtures("_qwen")
def test_what_is_sent_along_without_need_is_left_out(sdk: openai.OpenAI, world: World) -> None:
    search: Any = {"type": "web_search", "external_web_access": False}
    among_tools: Any = {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}}
    answer = strict(sdk.responses.create(**ASKED, tools=[search, among_tools, FUNCTION]))
    assert answer.to_dict()["left_out_tools"] == ["web_search", "tool_search"]
    assert [tool.type for tool in answer.tools] == ["function"]
    assert "_search" not in str(world.engine.requests[-1].prompt)
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(**ASKED, tools=[search], tool_choice="required")
    assert caught.value.param == "tool_choice"


def test_log_probabilities(sdk: openai.OpenAI, world: World) -> None:
    def script(conversation: Conversation) -> None:
        conversation.send(Started(7), Chunk(0, " caf", (TOKEN,)), Finished(0, "stop"), DONE)

    world.engine.script = script
    include: Any = ["message.output_text.logprobs"]
    answer = strict(sdk.responses.create(**ASKED, include=include, top_logprobs=2))
    assert world.engine.requests[0].sampling.top_logprobs == 2
    part = answer.output[0].content[0]  # type: ignore[union-attr,index]
    told = part.logprobs[0]  # type: ignore[union-attr,index]
    assert (told.token, told.logprob, [top.token for top in told.top_logprobs]) == (" caf", -0.5, [" caf", " x"])
    events = checked(sdk.responses.create(**ASKED, include=include, top_logprobs=2, stream=True))
    delta = next(event for event in events if event.type == "response.output_text.delta")
    assert delta.logprobs[0].to_dict() == told.to_dict()
    assert events[-1].response.output[0].to_dict()["content"] == answer.output[0].to_dict()["content"]


def test_an_answer_that_is_cut_off(sdk: openai.OpenAI, world: World) -> None:
    world.engine.script = say("Hello", reason="length")
    answer = strict(sdk.responses.create(**ASKED, max_output_tokens=1))
    assert answer.incomplete_details is not None
    assert (answer.status, answer.incomplete_details.reason, answer.output_text) == (
        "incomplete",
        "max_output_tokens",
        "Hello",
    )
    with sdk.responses.stream(**ASKED, max_output_tokens=1) as stream:
        events = checked(stream)
        with pytest.raises(RuntimeError, match="completed"):
            stream.get_final_response()
    assert kinds(events) == [*BEGUN, *WORDS, "incomplete"]
    assert events[-1].response.output[0].status == "incomplete"


class Thing(pydantic.BaseModel):
    a: int


def test_a_form(sdk: openai.OpenAI, world: World) -> None:
    world.engine.script = say('{"a"', ":1}")
    parsed = sdk.responses.parse(**ASKED, text_format=Thing)
    assert parsed.output_parsed == Thing(a=1)
    watch = world.engine.requests[0].watch
    assert watch is not None
    assert watch.answer is not None
    with sdk.responses.stream(**ASKED, text_format=Thing) as stream:
        checked(stream)
        assert stream.get_final_response().output_parsed == Thing(a=1)


def test_a_form_that_is_cut_off_is_no_error_of_the_helper(sdk: openai.OpenAI, world: World) -> None:
    world.engine.script = say('{"a"', reason="length")
    with sdk.responses.stream(**ASKED, text_format=Thing) as stream:
        assert kinds(checked(stream))[-1] == "incomplete"


def test_an_answer_that_is_not_what_was_asked_for(sdk: openai.OpenAI, world: World) -> None:
    world.engine.script = say('{"a":', '"x"}')
    answer = sdk.responses.parse(**ASKED, text_format=Thing)
    strict(answer)
    message = answer.output[0]
    assert message.type == "message"
    assert [part.type for part in message.content] == ["output_text", "refusal"]
    assert (answer.status, answer.output_parsed) == ("completed", None)
    with sdk.responses.stream(**ASKED, text_format=Thing) as stream:
        events = checked(stream)
        assert stream.get_final_response().output_parsed is None
    assert kinds(events)[2:] == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "content_part.done",
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_an_error_in_mid_stream(sdk: openai.OpenAI, world: World) -> None:
    def script(conversation: Conversation) -> None:
        conversation.send(Started(7), Chunk(0, "Hel"))
        conversation.fail(EngineError("it broke"))

    world.engine.script = script
    with sdk.responses.stream(**ASKED) as stream:
        events = checked(stream)
    assert kinds(events)[-1] == "failed"
    failed = events[-1].response
    assert (failed.status, failed.error.code, failed.error.message) == ("failed", "server_error", "it broke")
    assert failed.output[0].content[0].text == "Hel"


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_from_the_start_is_a_true_error(sdk: openai.OpenAI, world: World, stream: bool) -> None:
    def script(conversation: Conversation) -> None:
        conversation.fail(ContextLengthExceededError("too long", param="messages"))

    world.engine.script = script
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(**ASKED, stream=stream)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")


def test_a_stream_begins_before_its_model_is_loaded(client: FlaskClient, world: World) -> None:
    del world.supervisor.states["tiny"]
    world.supervisor.may_start.clear()
    answer = client.post("/v1/responses", json={**ASKED, "stream": True})
    pieces = iter(answer.response)
    opening = next(pieces)
    assert b"event: response.created" in opening
    # A silence is an event, for clients whose clock no comment sets back. It counts for nothing.
    silence = next(pieces)
    assert silence.startswith(b"event: response.in_progress")
    assert opening.endswith(silence)
    world.supervisor.may_start.set()
    assert b"event: response.completed" in b"".join(pieces)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": 5}, "input"),
        ({"conversation": "conv_x", "previous_response_id": "resp_x"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools.0.type"),
        ({"tools": [{"type": "web_search"}, {"type": "function", "name": "a b"}]}, "tools.1.name"),
        ({"tools": [{"type": "web_search"}, {**FUNCTION, "parameters": {"type": "array"}}]}, "tools.1.parameters.type"),
        (
            {"tools": [{"type": "web_search"}, {**FUNCTION, "parameters": {"properties": 5}}]},
            "tools.1.parameters.properties",
        ),
        ({"tools": [FUNCTION, FUNCTION]}, "tools.1.name"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "get_weather", "namespace": 5}},
            "tool_choice.namespace",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "what"}}}},
            "text.format.schema.type",
        ),
        ({"response_format": {"type": "text"}}, "response_format"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"moderation": {"model": "x"}}, "moderation"),
        ({"messages": []}, "messages"),
        ({"include": ["x"]}, "include.0"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ({"truncation": "sometimes"}, "truncation"),
        ({"n": 2}, "n"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_what_is_refused(client: FlaskClient, world: World, fields: dict[str, Any], param: str) -> None:
    answer = client.post("/v1/responses", json={**ASKED, **fields})
    assert answer.status_code == 400, answer.json
    error = answer.get_json()["error"]
    assert error["param"] == param, error
    assert error["message"]
    assert world.engine.requests == []


def test_nothing_to_answer(client: FlaskClient) -> None:
    answer = client.post("/v1/responses", json={"model": "tiny", "store": False})
    assert answer.status_code == 400
    assert answer.get_json()["error"]["param"] == "input"


def test_the_oldest_turns_are_left_out(sdk: openai.OpenAI, world: World) -> None:
    turns: Any = [{"role": role, "content": word * 100} for word in "abcd" for role in ("user", "assistant")]
    items = [*turns, {"role": "user", "content": "Hi"}]
    answer = strict(sdk.responses.create(**{**ASKED, "input": items}, truncation="auto"))
    assert len(answer.to_dict()["left_out_message_ids"]) > 0  # type: ignore[arg-type]
    told = world.engine.requests[-1].prompt
    shown = bytes(token for token in told if isinstance(token, int) and token < 256).decode()
    assert "aaa" not in shown
    assert shown.endswith("[user] Hi\n[assistant] ")


def test_tokens_are_counted(sdk: openai.OpenAI, world: World) -> None:
    few = sdk.responses.input_tokens.count(model="tiny", input="Hi").input_tokens
    more = sdk.responses.input_tokens.count(model="tiny", input="Hi", instructions="Be brief.").input_tokens
    assert 0 < few < more
    assert world.engine.requests == []


def test_there_is_no_websocket(client: FlaskClient) -> None:
    answer = client.get("/v1/responses", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    assert answer.status_code == 400
    assert "POST /v1/responses" in answer.get_json()["error"]["message"]


def test_an_engine_that_dies_at_once_is_asked_again(sdk: openai.OpenAI, world: World) -> None:
    def script(conversation: Conversation) -> None:
        if len(world.engine.requests) == 1:
            conversation.fail(EngineCrashedError("it died"))
        else:
            say("Hello")(conversation)

    world.engine.script = script
    assert sdk.responses.create(**ASKED).output_text == "Hello"
