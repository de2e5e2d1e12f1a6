"""The official SDK drives the API; its own types say whether an answer has the right shape."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from janflask.errors import EngineError
from janflask.ipc.messages.engine import Chunk, Finished, Started
from janflask.parsing.deltas import TokenLogprob, TopLogprob
from tests.fakes.scripted import DONE, Conversation, say
from tests.unit.api.conftest import World

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
TOKEN = TokenLogprob(" caf", b" caf", -0.5, 5, (TopLogprob(" caf", b" caf", -0.5, 5), TopLogprob(" x", b" x", -2.0, 6)))
HALF = TokenLogprob("\ufffd", b"\xc3", -float("inf"), 7, ())


def strictly(kind: Any, parsed: Any) -> Any:
    """The SDK builds objects without checking; this checks."""
    return kind.model_validate(parsed.to_dict(), strict=True)


def test_a_chat(sdk: openai.OpenAI, world: World) -> None:
    answer = sdk.chat.completions.create(model="tiny", messages=MESSAGES)
    strictly(ChatCompletion, answer)
    assert answer.choices[0].message.content == "Hello world"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 3, 10)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    timings = answer.model_extra["timings"]  # type: ignore[index]
    assert timings == {
        "queue_ms": 0.5,
        "cache_n": 4,
        "prompt_n": 3,
        "prompt_ms": 10.0,
        "prompt_per_second": 300.0,
        "predicted_n": 3,
        "predicted_ms": 20.0,
        "predicted_per_second": 150.0,
    }
    assert answer._request_id


def test_a_streamed_chat(sdk: openai.OpenAI, world: World) -> None:
    chunks = list(sdk.chat.completions.create(model="tiny", messages=MESSAGES, stream=True))
    for chunk in chunks:
        strictly(ChatCompletionChunk, chunk)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello world"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert "timings" in (chunks[-1].model_extra or {})


def test_a_stream_with_usage(sdk: openai.OpenAI, world: World) -> None:
    chunks = list(
        sdk.chat.completions.create(
            model="tiny", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 10
    assert "timings" in (chunks[-1].model_extra or {})


def test_several_choices(sdk: openai.OpenAI, world: World) -> None:
    def script(conversation: Conversation) -> None:
        conversation.send(Started(7), Chunk(1, "b"), Chunk(0, "a"), Finished(1, "length"))
        conversation.send(Chunk(0, "A"), Finished(0, "stop"), DONE)

    world.engine.script = script
    answer = sdk.chat.completions.create(model="tiny", messages=MESSAGES, n=2)
    assert [(c.index, c.message.content, c.finish_reason) for c in answer.choices] == [
        (0, "aA", "stop"),
        (1, "b", "length"),
    ]
    texts, reasons, roles = ["", ""], {}, []
    for chunk in sdk.chat.completions.create(model="tiny", messages=MESSAGES, n=2, stream=True):
        choice = chunk.choices[0]
        texts[choice.index] += choice.delta.content or ""
        if choice.delta.role:
            roles.append(choice.index)
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason
    assert texts == ["aA", "b"]
    assert reasons == {0: "stop", 1: "length"}
    assert roles == [0, 1]


def logprobs_script(conversation: Conversation) -> None:
    chunks = Chunk(0, " caf", (TOKEN,)), Chunk(0, "", (HALF,))
    conversation.send(Started(7), *chunks, Finished(0, "stop"), DONE)


def test_log_probabilities_of_a_chat(sdk: openai.OpenAI, world: World) -> None:
    world.engine.script = logprobs_script
    answer = sdk.chat.completions.create(model="tiny", messages=MESSAGES, logprobs=True, top_logprobs=2)
    strictly(ChatCompletion, answer)
    assert world.engine.requests[0].sampling.top_logprobs == 2
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    first, second = logprobs.content
    assert (first.token, first.logprob, first.bytes) == (" caf", -0.5, [32, 99, 97, 102])
    assert [top.token for top in first.top_logprobs] == [" caf", " x"]
    assert (second.bytes, second.logprob) == ([0xC3], -9999.0)

    streamed = []
    for chunk in sdk.chat.completions.create(
        model="tiny", messages=MESSAGES, logprobs=True, top_logprobs=2, stream=True
    ):
        strictly(ChatCompletionChunk, chunk)
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content or []
    assert [token.to_dict() for token in streamed] == [token.to_dict() for token in logprobs.content]


def test_log_probabilities_of_a_completion(sdk: openai.OpenAI, world: World) -> None:
    world.engine.script = logprobs_script
    answer = sdk.completions.create(model="tiny", prompt="x", logprobs=2)
    strictly(Completion, answer)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == [" caf", "bytes:\\xc3"]
    assert logprobs.token_logprobs == [-0.5, -9999.0]
    assert logprobs.top_logprobs == [{" caf": -0.5, " x": -2.0}, {}]
    assert logprobs.text_offset == [0, 4]

    streamed = list(sdk.completions.create(model="tiny", prompt="x", logprobs=2, stream=True))
    offsets = [
        offset
        for chunk in streamed
        if chunk.choices[0].logprobs
        for offset in chunk.choices[0].logprobs.text_offset or []
    ]
    assert offsets == [0, 4]


def test_only_the_chosen_tokens_log_probability(sdk: openai.OpenAI, world: World) -> None:
    sdk.chat.completions.create(model="tiny", messages=MESSAGES, logprobs=True)
    sdk.chat.completions.create(model="tiny", messages=MESSAGES)
    assert [request.sampling.top_logprobs for request in world.engine.requests] == [0, None]


def test_completions_of_several_prompts(sdk: openai.OpenAI, world: World) -> None:
    def script(conversation: Conversation) -> None:
        prompt = conversation.request.prompt
        chunks = [Chunk(i, f"{prompt}{i}") for i in range(2)]
        conversation.send(Started(7), *chunks, Finished(0, "stop"), Finished(1, "stop"), DONE)

    world.engine.script = script
    prompts = [f"p{i}-" for i in range(20)]
    answer = sdk.completions.create(model="tiny", prompt=prompts, n=2)
    strictly(Completion, answer)
    assert [choice.index for choice in answer.choices] == list(range(40))
    assert [choice.text for choice in answer.choices] == [f"{prompt}{i}" for prompt in prompts for i in range(2)]
    assert answer.usage is not None
    assert answer.usage.total_tokens == 20 * 10

    texts = [""] * 40
    for chunk in sdk.completions.create(model="tiny", prompt=prompts, n=2, stream=True, echo=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [f"{prompt}{prompt}{i}" for prompt in prompts for i in range(2)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("text", ["text"]),
        ([1, 2], [(1, 2)]),
        ([[1, 2], [3]], [(1, 2), (3,)]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_the_kinds_of_prompts(sdk: openai.OpenAI, world: World, prompt: Any, expected: list[Any]) -> None:
    world.engine.script = say("ok")
    answer = sdk.completions.create(model="tiny", prompt=prompt)
    assert [choice.text for choice in answer.choices] == ["ok"] * len(expected)
    assert sorted(map(repr, (request.prompt for request in world.engine.requests))) == sorted(map(repr, expected))
    assert {request.max_tokens for request in world.engine.requests} == {16}


def test_echo(sdk: openai.OpenAI, world: World) -> None:
    answer = sdk.completions.create(model="tiny", prompt="Say: ", echo=True)
    assert answer.choices[0].text == "Say: Hello world"


def test_models(sdk: openai.OpenAI, world: World) -> None:
    listed = list(sdk.models.list())
    assert [model.id for model in listed] == ["tiny"]
    strictly(Model, listed[0])
    strictly(Model, sdk.models.retrieve("tiny"))


def test_an_error_before_the_stream_is_a_status(sdk: openai.OpenAI, world: World) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model="nobody", messages=MESSAGES, stream=True)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


def test_an_error_in_mid_stream_raises(sdk: openai.OpenAI, world: World) -> None:
    def script(conversation: Conversation) -> None:
        conversation.send(Started(7), Chunk(0, "Hel"))
        conversation.fail(EngineError("the graph broke"))

    world.engine.script = script
    chunks = sdk.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
    assert [next(chunks).choices[0].delta.content for _ in range(2)] == ["", "Hel"]
    with pytest.raises(openai.APIError, match="the graph broke") as caught:
        next(chunks)
    assert caught.value.code == "engine_error"


def test_an_engine_that_dies_in_mid_stream_raises(sdk: openai.OpenAI, world: World) -> None:
    world.engine.script = lambda conversation: conversation.send(Started(7), Chunk(0, "Hel"))
    with pytest.raises(openai.APIError, match="ended in the middle") as caught:
        list(sdk.chat.completions.create(model="tiny", messages=MESSAGES, stream=True))
    assert caught.value.code == "engine_crashed"
