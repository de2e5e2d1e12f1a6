"""Responses with the official SDK, on the real server and a real model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import openai
import pydantic
import pytest

from tests.e2e.server import LIMIT, MODEL, Server, serving, wait_for
from tests.unit.api.responses import WORDS, checked, kinds, strict, told

QUESTION = "What is the capital of France?"
ASKED: dict[str, Any] = {"model": MODEL, "input": QUESTION, "max_output_tokens": 12, "temperature": 0}
# It ends, whatever the model would like to say.
ENDING: dict[str, Any] = {**ASKED, "max_output_tokens": 400, "extra_body": {"regex": "It is Paris, [a-z]{3,9}"}}


def shape(answer: Any) -> dict[str, Any]:
    """What two answers to the same question have in common."""
    own = {"id", "created_at", "completed_at", "usage", "store", "thread_id", "output", "background", "status"}
    return {name: value for name, value in answer.to_dict().items() if name not in own}


def test_stored_and_not_stored_say_the_same(sdk: openai.OpenAI, server: Server) -> None:
    stored = strict(sdk.responses.create(**ASKED))
    before = set((server.data_dir / "threads").iterdir())
    unstored = strict(sdk.responses.create(**ASKED, store=False))
    assert set((server.data_dir / "threads").iterdir()) == before
    assert stored.output_text == unstored.output_text != ""
    assert shape(stored) == shape(unstored)
    assert stored.usage is not None
    assert unstored.usage is not None
    assert stored.usage.input_tokens == unstored.usage.input_tokens
    assert stored.usage.output_tokens == unstored.usage.output_tokens <= 12
    counted = sdk.responses.input_tokens.count(model=MODEL, input=QUESTION)
    assert counted.input_tokens == stored.usage.input_tokens
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(unstored.id)


@pytest.mark.parametrize("store", [True, False])
def test_a_stream(sdk: openai.OpenAI, store: bool) -> None:
    with sdk.responses.stream(**ENDING, store=store) as stream:
        events = checked(stream)
        final = strict(stream.get_final_response())
    assert kinds(events) == ["created", "in_progress", *WORDS, "completed"]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == final.output_text
    if store:
        again = sdk.responses.retrieve(final.id)
        assert again.output_text == final.output_text
        replayed = checked(sdk.responses.retrieve(final.id, stream=True))
        assert kinds(replayed) == kinds(events)
        assert replayed[-1].response.to_dict() == again.to_dict()
        rest = list(sdk.responses.retrieve(final.id, stream=True, starting_after=5))
        assert told(rest) == told(replayed[6:])


@pytest.mark.parametrize("store", [True, False])
def test_a_cut(sdk: openai.OpenAI, store: bool) -> None:
    asked = {**ASKED, "max_output_tokens": 3, "store": store, "extra_body": {"ignore_eos": True}}
    answer = strict(sdk.responses.create(**asked))
    assert (answer.status, answer.output_text != "") == ("incomplete", True)
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 3
    events = checked(sdk.responses.create(**asked, stream=True))
    assert kinds(events)[-1] == "incomplete"


def test_one_goes_on_behind_another(sdk: openai.OpenAI) -> None:
    first = sdk.responses.create(**ASKED, instructions="Be brief.")
    second = strict(sdk.responses.create(**{**ASKED, "input": "And of Spain?"}, previous_response_id=first.id))
    third = strict(sdk.responses.create(**{**ASKED, "input": "And of Italy?"}, previous_response_id=first.id))
    assert second.previous_response_id == third.previous_response_id == first.id
    assert second.instructions is None
    assert second.to_dict()["thread_id"] == first.to_dict()["thread_id"] != third.to_dict()["thread_id"]
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    unstored = sdk.responses.create(**{**ASKED, "input": "And of Spain?"}, previous_response_id=first.id, store=False)
    assert unstored.output_text == second.output_text
    items = told(sdk.responses.input_items.list(second.id))
    assert [item["content"][0]["text"] for item in items] == ["And of Spain?"]


def test_a_response_in_the_background(sdk: openai.OpenAI) -> None:
    asked = {**ASKED, "max_output_tokens": 40, "extra_body": {"ignore_eos": True}}
    polled = strict(sdk.responses.create(**asked, background=True))
    assert polled.status in ("queued", "in_progress")
    events = checked(sdk.responses.retrieve(polled.id, stream=True))
    assert kinds(events)[:3] == ["created", "queued", "in_progress"]
    assert kinds(events)[-1] == "incomplete"
    wait_for(lambda: sdk.responses.retrieve(polled.id).status == "incomplete", "the response's end")
    final = strict(sdk.responses.retrieve(polled.id))
    assert final.to_dict() == events[-1].response.to_dict()
    half = len(events) // 2
    assert told(sdk.responses.retrieve(polled.id, stream=True, starting_after=half)) == told(events[half + 1 :])


def test_cancelling_and_deleting(sdk: openai.OpenAI) -> None:
    asked = {**ASKED, "max_output_tokens": 1500, "extra_body": {"ignore_eos": True}}
    answer = sdk.responses.create(**asked, background=True)
    assert strict(sdk.responses.cancel(answer.id)).status == "cancelled"
    assert sdk.responses.cancel(answer.id).status == "cancelled"
    events = checked(sdk.responses.retrieve(answer.id, stream=True))
    assert (kinds(events)[-1], events[-1].response.status) == ("incomplete", "cancelled")
    sdk.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(answer.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.create(**ASKED, previous_response_id=answer.id)


class Capital(pydantic.BaseModel):
    city: str = pydantic.Field(max_length=20)
    country: str = pydantic.Field(max_length=20)


@pytest.mark.parametrize("store", [True, False])
def test_a_form(sdk: openai.OpenAI, store: bool) -> None:
    parsed = sdk.responses.parse(**{**ASKED, "max_output_tokens": 200}, text_format=Capital, store=store)
    assert isinstance(parsed.output_parsed, Capital)
    assert parsed.text is not None
    with sdk.responses.stream(**{**ASKED, "max_output_tokens": 200}, text_format=Capital, store=store) as stream:
        checked(stream)
        assert stream.get_final_response().output_parsed == parsed.output_parsed


def test_log_probabilities(sdk: openai.OpenAI) -> None:
    include: Any = ["message.output_text.logprobs"]
    stored, unstored = (
        strict(sdk.responses.create(**ASKED, include=include, top_logprobs=2, store=store)) for store in (True, False)
    )
    tokens = [
        [token["token"] for token in answer["output"][0]["content"][0]["logprobs"]]
        for answer in told([stored, unstored])
    ]
    assert "".join(tokens[0]) == stored.output_text
    assert tokens[0] == tokens[1]
    assert sdk.responses.retrieve(stored.id).to_dict() == stored.to_dict()


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_that_is_too_long(sdk: openai.OpenAI, server: Server, store: bool, stream: bool) -> None:
    before = set((server.data_dir / "threads").iterdir())
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(**{**ASKED, "input": "word " * 5000}, store=store, stream=stream)
    assert caught.value.code == "context_length_exceeded"
    assert set((server.data_dir / "threads").iterdir()) == before


@pytest.mark.parametrize("store", [True, False])
def test_the_oldest_turns_are_left_out(sdk: openai.OpenAI, store: bool) -> None:
    old: Any = [{"role": role, "content": "word " * 900} for role in ("user", "assistant") * 2]
    items = [*old, {"role": "user", "content": QUESTION}]
    answer = strict(sdk.responses.create(**{**ASKED, "input": items}, truncation="auto", store=store))
    assert answer.to_dict()["left_out_message_ids"] != []
    assert answer.status in ("completed", "incomplete")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/responses/resp_nothing", None),
        ("GET", "/v1/responses/..%2f..%2fthreads", None),
        ("DELETE", "/v1/responses/resp_nothing", None),
        ("POST", "/v1/responses/resp_nothing/cancel", None),
        ("GET", "/v1/responses/resp_nothing/input_items", None),
        ("POST", "/v1/responses", {**ASKED, "previous_response_id": "resp_nothing"}),
        ("POST", "/v1/responses", {**ASKED, "previous_response_id": "../../x"}),
        ("POST", "/v1/responses", {**ASKED, "conversation": "conv_nothing"}),
        ("POST", "/v1/responses", {**ASKED, "conversation": "../x"}),
        ("POST", "/v1/responses", {**ASKED, "conversation": "../x", "store": False}),
        ("POST", "/v1/responses", {**ASKED, "input": [{"type": "item_reference", "id": "msg_nothing"}]}),
        ("POST", "/v1/responses", {**ASKED, "model": "nobody"}),
    ],
)
def test_unknown_ids(server: Server, method: str, path: str, body: Any) -> None:
    answer = httpx.request(method, f"{server.url}{path}", json=body, timeout=LIMIT)
    assert answer.status_code == 404, answer.text
    assert answer.json()["error"]["message"]


def test_a_conversation(sdk: openai.OpenAI, server: Server) -> None:
    conversation = sdk.conversations.create(items=[{"type": "message", "role": "user", "content": "My name is Ann."}])
    answer = strict(sdk.responses.create(**ASKED, conversation=conversation.id))
    assert answer.conversation is not None
    assert answer.conversation.id == conversation.id
    listed = [item.to_dict() for item in sdk.conversations.items.list(conversation.id, order="asc")]
    assert [item["role"] for item in listed] == ["user", "user", "assistant"]
    assert listed[-1]["id"] == answer.output[0].id
    assert listed[-1] == answer.output[0].to_dict()


def test_the_asynchronous_sdk(server: Server) -> None:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=LIMIT) as sdk:
            async with sdk.responses.stream(**ENDING) as stream:
                async for _ in stream:
                    pass
                final = await stream.get_final_response()
            return final.output_text

    assert asyncio.run(ask())


def test_nothing_of_an_unstored_one_is_on_the_disk(own_dir: Path) -> None:
    """Nor is its KV state, which is long enough for that, when the server has ended."""

    def files() -> set[Path]:
        return {path for path in own_dir.rglob("*") if path.is_file() and "logs" not in path.parts}

    with serving(own_dir) as server, server.sdk() as sdk:
        server.start().raise_for_status()
        before = files()
        sdk.responses.create(**{**ASKED, "input": "word " * 400}, store=False)
        server.end()
    assert files() <= before
