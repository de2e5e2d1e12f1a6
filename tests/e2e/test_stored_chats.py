"""Stored chat completions with the official SDK, on the real server and a real model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import openai
import pytest
from openai import Stream
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionStoreMessage

from tests.e2e.server import LIMIT, MODEL, Server, wait_for

MESSAGES: Any = [{"role": "system", "content": "You answer."}, {"role": "user", "content": "What is the sea?"}]
SAMPLING: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"at": {"enum": ["sea", "sky"]}}, "required": ["at"]},
    },
}


def told(chunks: Sequence[ChatCompletionChunk]) -> list[dict[str, Any]]:
    return [chunk.model_dump(exclude={"id", "created"}, exclude_unset=True) for chunk in chunks]


def untimed(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what differs from one time to another: how long it took, and what was cached."""
    return [{name: value for name, value in chunk.items() if name not in ("timings", "usage")} for chunk in chunks]


def joined(sdk: openai.OpenAI, name: str, after: int = 0) -> list[ChatCompletionChunk]:
    stream = sdk.get(
        f"/chat/completions/{name}",
        cast_to=ChatCompletionChunk,
        options={"params": {"stream": "true", "starting_after": after}},
        stream=True,
        stream_cls=Stream[ChatCompletionChunk],
    )
    return list(stream)


def test_a_stored_chat_says_what_any_other_does(sdk: openai.OpenAI) -> None:
    call = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    for fields in {}, {"logprobs": True, "top_logprobs": 3}, call:
        body: Any = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "max_tokens": 40, **fields}
        plain = sdk.chat.completions.create(**body)
        stored = sdk.chat.completions.create(**body, store=True)
        assert without_call_ids(stored) == without_call_ids(plain)
        with sdk.chat.completions.stream(**body, store=True, stream_options={"include_usage": True}) as stream:
            final = [event.snapshot for event in stream if event.type == "chunk"][-1]  # the helper refuses what was cut
        assert said(final) == said(plain)
        assert final.choices[0].finish_reason == plain.choices[0].finish_reason
        assert final.usage is not None
        assert plain.usage is not None
        assert (final.usage.prompt_tokens, final.usage.completion_tokens) == (
            plain.usage.prompt_tokens,
            plain.usage.completion_tokens,
        )
        assert sdk.chat.completions.retrieve(stored.id) == stored
        for chat in stored, final:
            sdk.chat.completions.delete(chat.id)


def said(chat: ChatCompletion) -> tuple[str, list[tuple[str, str]]]:
    """The words, of which a stream has none or empty ones where there are calls, and these."""
    message = chat.choices[0].message
    calls: Any = message.tool_calls or ()
    return message.content or "", [(call.function.name, call.function.arguments) for call in calls]


def without_call_ids(chat: ChatCompletion) -> Any:
    (choice,) = chat.model_copy(deep=True).choices
    for call in choice.message.tool_calls or ():
        call.id = ""
    return choice


def test_a_stream_has_the_chunks_of_any_other_and_is_told_again(sdk: openai.OpenAI) -> None:
    body: Any = {"model": MODEL, "messages": MESSAGES, **SAMPLING, "stream": True}
    plain = list(sdk.chat.completions.create(**body))
    stored = list(sdk.chat.completions.create(**body, store=True))
    assert untimed(told(stored)) == untimed(told(plain))
    name = stored[0].id
    for after in 0, 1, 7, len(stored), len(stored) + 1:
        assert joined(sdk, name, after) == stored[after:]
    sdk.chat.completions.delete(name)


def test_a_client_that_left_joins_again(sdk: openai.OpenAI) -> None:
    body: Any = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "max_tokens": 200, "store": True}
    heard: list[ChatCompletionChunk] = []
    with sdk.chat.completions.create(**body, extra_body={"ignore_eos": True}, stream=True) as stream:
        for chunk in stream:
            heard.append(chunk)
            if len(heard) == 5:
                break
    name = heard[0].id
    assert stream.response.headers["X-Chat-Completion-Id"] == name
    rest = joined(sdk, name, len(heard))
    assert rest[-1].choices[0].finish_reason == "length"
    chat = sdk.chat.completions.retrieve(name)
    assert chat.usage is not None
    assert chat.usage.completion_tokens == 200
    words = [chunk.choices[0].delta.content or "" for chunk in (*heard, *rest)]
    assert "".join(words) == chat.choices[0].message.content
    assert joined(sdk, name) == [*heard, *rest]
    sdk.chat.completions.delete(name)


def test_a_chat_that_is_being_answered_is_waited_for(sdk: openai.OpenAI) -> None:
    body: Any = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "max_tokens": 60, "store": True}
    with sdk.chat.completions.create(**body, extra_body={"ignore_eos": True}, stream=True) as stream:
        name = next(iter(stream)).id
        chat = sdk.chat.completions.retrieve(name)
    assert chat.choices[0].finish_reason == "length"
    sdk.chat.completions.delete(name)


def test_listed_marked_and_deleted(sdk: openai.OpenAI, server: Server) -> None:
    body: Any = {"model": MODEL, "messages": MESSAGES, **SAMPLING, "store": True}
    mark = {"test": "listed"}
    made = [sdk.chat.completions.create(**body, metadata={**mark, "number": str(number)}).id for number in range(3)]
    assert [chat.id for chat in sdk.chat.completions.list(metadata=mark, limit=2)] == made
    assert [chat.id for chat in sdk.chat.completions.list(metadata=mark, order="desc")] == made[::-1]
    assert [chat.id for chat in sdk.chat.completions.list(metadata={"number": "1"}, model=MODEL)] == [made[1]]
    assert sdk.chat.completions.update(made[1], metadata={"other": "x"}).metadata == {"other": "x"}
    assert [chat.id for chat in sdk.chat.completions.list(metadata=mark)] == [made[0], made[2]]
    messages = list(sdk.chat.completions.messages.list(made[0], limit=1))
    assert all(isinstance(message, ChatCompletionStoreMessage) for message in messages)
    assert [(message.role, message.content) for message in messages] == [
        (message["role"], message["content"]) for message in MESSAGES
    ]
    for name in made:
        assert sdk.chat.completions.delete(name).deleted
        with pytest.raises(openai.NotFoundError):
            sdk.chat.completions.retrieve(name)
    assert list(sdk.chat.completions.list(metadata=mark)) == []


def test_asynchronously(server: Server) -> None:
    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=LIMIT) as sdk:
            chat = await sdk.chat.completions.create(model=MODEL, messages=MESSAGES, store=True, max_tokens=4)
            assert await sdk.chat.completions.retrieve(chat.id) == chat
            messages = [message async for message in sdk.chat.completions.messages.list(chat.id)]
            assert len(messages) == len(MESSAGES)
            assert (await sdk.chat.completions.delete(chat.id)).deleted

    asyncio.run(ask())


@pytest.mark.parametrize("stream", [False, True])
def test_what_fails_before_a_word_is_not_kept(sdk: openai.OpenAI, server: Server, stream: Any) -> None:
    before = sorted((server.data_dir / "threads").iterdir())
    long: Any = [{"role": "user", "content": "word " * 5000}]
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=MODEL, messages=long, store=True, stream=stream)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.create(model="no-such-model", messages=MESSAGES, store=True, stream=stream)
    wait_for(lambda: sorted((server.data_dir / "threads").iterdir()) == before, "the failed one to be gone")
