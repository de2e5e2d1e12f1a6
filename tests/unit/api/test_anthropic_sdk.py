"""Anthropic's SDK drives /v1/messages; its own types say whether an answer has the right shape."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pydantic
import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from flask.testing import FlaskClient

from janflask.api.examples import anthropic as examples
from janflask.errors import EngineError
from janflask.ipc.messages.engine import Chunk, Done, Finished, Started
from janflask.ipc.messages.generation import Usage
from tests.fakes.scripted import DONE, TIMINGS, Conversation, Script, say
from tests.unit.api.conftest import World

HI: Any = [{"role": "user", "content": "Hi"}]
ASKED: dict[str, Any] = {"model": "tiny", "max_tokens": 3, "messages": HI}
TOOL: Any = {
    "name": "get_weather",
    "description": "The weather at a place.",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
LINE = '<tool_call>\n{"name": "get_weather", "arguments": {"place": "Paris"}}\n</tool_call>'
THINKING = (
    "{% for m in messages %}<{{ m.role }}>{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
    "{% endif %}{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<assistant><think>\n{% endif %}"
)
EVENT: pydantic.TypeAdapter[RawMessageStreamEvent] = pydantic.TypeAdapter(RawMessageStreamEvent)


@pytest.fixture
def qwen(world: World, llama_templates: Path) -> None:
    world.runs_as(chat_template=(llama_templates / "Qwen-Qwen2.5-7B-Instruct.jinja").read_text())


@pytest.fixture
def thinker(world: World) -> None:
    world.runs_as(chat_template=THINKING)


def strictly(kind: Any, parsed: Any) -> Any:
    """The SDK builds objects without checking; this checks."""
    return kind.model_validate(json.loads(parsed.model_dump_json()))


def ends(*texts: str, reason: str = "stop", stop: str | None = None, tokens: int = 3) -> Script:
    """An answer that ends in some way, of so many tokens."""
    usage = Usage(prompt_tokens=7, completion_tokens=tokens, cached_tokens=4)

    def script(conversation: Conversation) -> None:
        chunks = [Chunk(0, text) for text in texts]
        conversation.send(Started(7), *chunks, Finished(0, reason, stop), Done(usage, TIMINGS))

    return script


def raw_events(claude: anthropic.Anthropic, **more: Any) -> list[RawMessageStreamEvent]:
    with claude.messages.create(**{**ASKED, **more}, stream=True) as stream:
        events = list(stream)
    for event in events:
        EVENT.validate_python(json.loads(event.model_dump_json()))
    return events


def whole_and_streamed(claude: anthropic.Anthropic, **more: Any) -> Iterator[Message]:
    """The same answer in both ways."""
    yield strictly(Message, claude.messages.create(**{**ASKED, **more}))
    with claude.messages.stream(**{**ASKED, **more}) as stream:
        yield strictly(Message, stream.get_final_message())


def test_a_message(claude: anthropic.Anthropic, world: World) -> None:
    for message in whole_and_streamed(claude):
        assert [block.to_dict() for block in message.content] == [
            {"type": "text", "text": "Hello world", "citations": None}
        ]
        assert (message.stop_reason, message.stop_sequence, message.role) == ("end_turn", None, "assistant")
        assert message.id.startswith("msg_")
        usage = message.usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (3, 4, 0)
        assert usage.output_tokens == 3
    assert world.engine.requests[-1].max_tokens == 3


def test_its_events(claude: anthropic.Anthropic) -> None:
    events = raw_events(claude)
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start = events[0].to_dict()["message"]
    assert (start["content"], start["stop_reason"]) == ([], None)
    assert start["usage"]["input_tokens"] == 7


def test_text_as_it_comes(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(**ASKED) as stream:
        assert list(stream.text_stream) == ["Hello", " world"]
        assert stream.request_id


def test_the_async_client(server: str) -> None:
    async def ask() -> tuple[Message, Message, MessageTokensCount]:
        async with anthropic.AsyncAnthropic(base_url=server, api_key="none", max_retries=0) as client:
            whole = await client.messages.create(**ASKED)
            async with client.messages.stream(**ASKED) as stream:
                streamed = await stream.get_final_message()
            return whole, streamed, await client.messages.count_tokens(model="tiny", messages=HI)

    whole, streamed, count = asyncio.run(ask())
    assert [block.text for block in (*whole.content, *streamed.content) if block.type == "text"] == ["Hello world"] * 2
    assert count.input_tokens == len("<s>[user] Hi\n[assistant] ")  # a token is a byte


@pytest.mark.usefixtures("qwen")
def test_calls(claude: anthropic.Anthropic, world: World) -> None:
    world.engine.script = say("I ", "look.\n<tool", LINE.removeprefix("<tool"), f"\n{LINE}")
    for message in whole_and_streamed(claude, tools=[TOOL]):
        text, *calls = message.content
        assert text.to_dict()["text"] == "I look."
        assert [call.to_dict() for call in calls] == [
            {
                "type": "tool_use",
                "id": call.to_dict()["id"],
                "name": "get_weather",
                "input": {"place": "Paris"},
                "caller": {"type": "direct"},
                "toolset_name": None,
            }
            for call in calls
        ]
        assert len({call.to_dict()["id"] for call in calls}) == 2
        assert message.stop_reason == "tool_use"
    starts = [event for event in raw_events(claude, tools=[TOOL]) if event.type == "content_block_start"]
    assert [event.index for event in starts] == [0, 1, 2]


@pytest.mark.usefixtures("qwen")
def test_only_one_call(claude: anthropic.Anthropic, world: World) -> None:
    world.engine.script = say(f"{LINE}\n{LINE}")
    choice: Any = {"type": "auto", "disable_parallel_tool_use": True}
    for message in whole_and_streamed(claude, tools=[TOOL], tool_choice=choice):
        assert [block.type for block in message.content] == ["tool_use"]


@pytest.mark.usefixtures("qwen")
def test_a_call_that_was_cut(claude: anthropic.Anthropic, world: World) -> None:
    world.engine.script = ends('<tool_call>{"name": "get_weather", "arguments": {"place": "Pa', reason="length")
    whole, streamed = whole_and_streamed(claude, tools=[TOOL])
    assert whole.stop_reason == streamed.stop_reason == "max_tokens"
    assert whole.content[0].to_dict()["input"] == {"INVALID_JSON": '{"place": "Pa'}
    assert streamed.content[0].to_dict()["input"] == {}  # the SDK reads what is whole of the pieces


@pytest.mark.usefixtures("thinker")
def test_thoughts(claude: anthropic.Anthropic, world: World) -> None:
    world.engine.script = say("Let me", " see.\n</think>\n\n", "Hello")
    for message in whole_and_streamed(claude):
        thought, text = message.content
        assert isinstance(thought, anthropic.types.ThinkingBlock)
        assert thought.thinking.strip() == "Let me see."
        assert thought.signature
        assert text.to_dict()["text"] == "Hello"
        back: Any = [*HI, message.to_param(), {"role": "user", "content": "And?"}]
        claude.messages.create(**{**ASKED, "messages": back})


@pytest.mark.usefixtures("thinker")
def test_thoughts_that_are_not_shown(claude: anthropic.Anthropic, world: World) -> None:
    world.engine.script = say("Let me see.\n</think>\n\n", "Hello")
    omitted: Any = {"type": "adaptive", "display": "omitted"}
    for message in whole_and_streamed(claude, thinking=omitted):
        thought, text = message.content
        assert thought.to_dict()["thinking"] == ""
        assert len(thought.to_dict()["signature"]) > 40
        assert text.to_dict()["text"] == "Hello"
    deltas = [event for event in raw_events(claude, thinking=omitted) if event.type == "content_block_delta"]
    assert [event.delta.type for event in deltas] == ["signature_delta", "text_delta"]


def test_which_stop_sequence_ended_it(claude: anthropic.Anthropic, world: World) -> None:
    world.engine.script = ends("One, ", stop="three")
    for message in whole_and_streamed(claude, stop_sequences=["four", "three"]):
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "three")
    assert world.engine.requests[-1].stop[:2] == ("four", "three")
    world.engine.script = ends("One, ", stop="<|im_end|>")  # the layout's own
    for message in whole_and_streamed(claude, stop_sequences=["four", "three"]):
        assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)


def test_cut_by_length_and_by_the_context(claude: anthropic.Anthropic, world: World) -> None:
    world.engine.script = ends("One", reason="length", tokens=3)
    assert [message.stop_reason for message in whole_and_streamed(claude)] == ["max_tokens"] * 2
    world.engine.script = ends("One", reason="length", tokens=2)
    assert [message.stop_reason for message in whole_and_streamed(claude)] == ["model_context_window_exceeded"] * 2


def test_nothing_said(claude: anthropic.Anthropic, world: World) -> None:
    world.engine.script = ends()
    for message in whole_and_streamed(claude):
        assert (message.content, message.stop_reason) == ([], "end_turn")


def test_only_the_prompt(claude: anthropic.Anthropic, world: World) -> None:
    """``max_tokens`` 0 computes it for the next request."""
    world.engine.script = ends("H", reason="length", tokens=1)
    for message in whole_and_streamed(claude, max_tokens=0):
        assert (message.content, message.stop_reason, message.usage.output_tokens) == ([], "max_tokens", 0)
    assert world.engine.requests[-1].max_tokens == 1


def test_an_answer_that_misses_its_schema(claude: anthropic.Anthropic, world: World) -> None:
    world.engine.script = say('{"a": "no number"}')
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    for message in whole_and_streamed(claude, output_config={"format": {"type": "json_schema", "schema": schema}}):
        assert message.stop_reason == "refusal"
        assert message.stop_details is not None
        assert "integer" in str(message.stop_details.explanation)


@pytest.mark.usefixtures("impatient")
def test_silence_is_filled_with_pings(claude: anthropic.Anthropic, world: World, server: str) -> None:
    def script(conversation: Conversation) -> None:
        conversation.send(Started(7))
        assert not silent.wait(0.2)
        conversation.send(Chunk(0, "x"), Finished(0, "stop"), DONE)

    silent = threading.Event()
    world.engine.script = script
    response = claude._client.post(f"{server}/v1/messages", json={**ASKED, "stream": True})
    assert 'event: ping\ndata: {"type":"ping"}\n\n' in response.text
    assert [event.type for event in raw_events(claude)][-1] == "message_stop"


def test_an_error_in_mid_stream(claude: anthropic.Anthropic, world: World) -> None:
    def script(conversation: Conversation) -> None:
        conversation.send(Started(7), Chunk(0, "Hel"))
        conversation.fail(EngineError("the engine failed"))

    world.engine.script = script
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        claude.messages.stream(**ASKED) as stream,
    ):
        list(stream)
    assert caught.value.type == "api_error"
    assert caught.value.api_message == "the engine failed"
    assert caught.value.error_code == "engine_error"
    assert caught.value.body["request_id"] == caught.value.request_id  # type: ignore[index,call-overload]


def test_the_examples_are_what_the_sdk_knows(client: FlaskClient, world: World) -> None:
    Message.model_validate(examples.MESSAGE)
    MessageTokensCount.model_validate(examples.COUNT_ANSWER)
    for line in examples.STREAM.splitlines():
        if line.startswith("data: "):
            EVENT.validate_json(line.removeprefix("data: "))
    for path, body, example in (
        ("", examples.MESSAGES_REQUEST, examples.MESSAGE),
        ("/count_tokens", examples.COUNT_REQUEST, examples.COUNT_ANSWER),
    ):
        world.write_model(body["model"])
        world.supervisor.states[body["model"]] = world.supervisor.run(body["model"], world.engine)
        answer = client.post(f"/v1/messages{path}", json=body).json
        assert answer is not None
        assert set(answer) == set(example)
