"""Prompts before their answers, and OpenAI's older form of log-probabilities."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from flask.testing import FlaskClient

from janflask.api.answers.inference import LegacyLogprobs
from janflask.ipc.messages.engine import Chunk, Echo, Finished, Started
from janflask.parsing.deltas import TokenLogprob, TopLogprob
from tests.fakes.scripted import DONE, Conversation, say
from tests.unit.api.conftest import World

BOS = TokenLogprob("<s>", b"<s>", None, 1, (), 0)
SAY = TokenLogprob(" Say", b" Say", -1.5, 2, (TopLogprob(" Say", b" Say", -1.5, 2),), 3)
COLON = TokenLogprob(":", b":", -0.25, 3, (TopLogprob("!", b"!", -0.1, 4), TopLogprob(":", b":", -0.25, 3)), 1)
ANSWER = TokenLogprob(" ok", b" ok", -0.5, 5, (TopLogprob(" ok", b" ok", -0.5, 5),))
END = TokenLogprob("</s>", b"</s>", -0.75, 6, (), 0)
PROMPT = "Say:"


def tells(conversation: Conversation) -> None:
    """The prompt in two parts, and then each choice."""
    conversation.send(Started(3), Echo("Say", (BOS, SAY)), Echo(":", (COLON,)))
    for index in range(conversation.request.n):
        answer = [Chunk(index, " ok", (ANSWER,)), Chunk(index, "", (END,))] if conversation.request.max_tokens else []
        conversation.send(*answer, Finished(index, "stop" if answer else "length"))
    conversation.send(DONE)


SCORED = {
    "tokens": ["<s>", " Say", ":", " ok", "</s>"],
    "token_logprobs": [None, -1.5, -0.25, -0.5, -0.75],
    "top_logprobs": [None, {" Say": -1.5}, {"!": -0.1, ":": -0.25}, {" ok": -0.5}, {}],
    "text_offset": [0, 0, 3, 4, 7],
}


def lines(response: Any) -> list[dict[str, Any]]:
    """The objects of a stream."""
    events = [event.removeprefix("data: ") for event in response.text.strip().split("\n\n")]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1] if not event.startswith(":")]


@pytest.mark.parametrize("prompt", [PROMPT, [1, 2, 3]])
@pytest.mark.parametrize("n", [1, 2])
def test_a_prompt_with_its_scores(client: FlaskClient, world: World, prompt: Any, n: int) -> None:
    world.engine.script = tells
    body = {"model": "tiny", "prompt": prompt, "echo": True, "logprobs": 2, "max_tokens": 1, "n": n}
    answer = client.post("/v1/completions", json=body).json
    assert [choice["text"] for choice in answer["choices"]] == ["Say: ok"] * n
    assert [choice["logprobs"] for choice in answer["choices"]] == [SCORED] * n
    (request,) = world.engine.requests
    assert (request.echo, request.sampling.top_logprobs, request.max_tokens) == (True, 2, 1)


def test_the_prompt_alone(client: FlaskClient, world: World) -> None:
    world.engine.script = tells
    body = {"model": "tiny", "prompt": [1, 2, 3], "echo": True, "logprobs": 2, "max_tokens": 0}
    (choice,) = client.post("/v1/completions", json=body).json["choices"]
    assert choice["logprobs"] == {name: items[:3] for name, items in SCORED.items()}
    assert (choice["text"], choice["finish_reason"]) == (PROMPT, "length")


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_streamed(client: FlaskClient, world: World, max_tokens: int) -> None:
    world.engine.script = tells
    body = {"model": "tiny", "prompt": PROMPT, "echo": True, "logprobs": 2, "max_tokens": max_tokens, "n": 2}
    whole = client.post("/v1/completions", json=body).json["choices"]
    texts = ["", ""]
    logprobs: list[dict[str, list[Any]]] = [{name: [] for name in SCORED} for _ in range(2)]
    for item in lines(client.post("/v1/completions", json={**body, "stream": True})):
        choice = item["choices"][0]
        texts[choice["index"]] += choice["text"]
        for name, items in (choice["logprobs"] or {}).items():
            logprobs[choice["index"]][name] += items
    assert texts == [choice["text"] for choice in whole]
    assert logprobs == [choice["logprobs"] for choice in whole]


def test_several_prompts_with_their_scores(client: FlaskClient, world: World) -> None:
    def script(conversation: Conversation) -> None:
        token = TokenLogprob("x", b"x", None, conversation.request.prompt[0])
        conversation.send(Started(1), Echo(f"{conversation.request.prompt}", (token,)))
        ends = [Finished(index, "length") for index in range(2)]
        conversation.send(*ends, DONE)

    world.engine.script = script
    prompts = [[number] for number in range(20)]
    body = {"model": "tiny", "prompt": prompts, "echo": True, "logprobs": 0, "max_tokens": 0, "n": 2}
    choices = client.post("/v1/completions", json=body).json["choices"]
    assert [choice["index"] for choice in choices] == list(range(40))
    assert [choice["text"] for choice in choices] == [f"({number},)" for number in range(20) for _ in range(2)]


def test_token_ids_are_echoed_by_the_engine_and_a_text_by_us(client: FlaskClient, world: World) -> None:
    def script(conversation: Conversation) -> None:
        conversation.send(Started(2), *([Echo("from ids")] if conversation.request.echo else []))
        conversation.send(Chunk(0, "!"), Finished(0, "stop"), DONE)

    world.engine.script = script
    body = {"model": "tiny", "prompt": [[1, 2], [3]], "echo": True}
    assert [choice["text"] for choice in client.post("/v1/completions", json=body).json["choices"]] == ["from ids!"] * 2
    body["prompt"] = "text"
    assert client.post("/v1/completions", json=body).json["choices"][0]["text"] == "text!"
    assert [request.echo for request in world.engine.requests] == [True, True, False]


@pytest.mark.parametrize(("given", "expected"), [({}, 16), ({"max_tokens": None}, 16), ({"max_tokens": 0}, 0)])
def test_the_default_of_max_tokens_is_openais_and_not_the_models(
    client: FlaskClient, world: World, given: dict[str, Any], expected: int
) -> None:
    world.write_model(parameters={"max_tokens": 4096})
    world.engine.script = say("ok")
    assert client.post("/v1/completions", json={"model": "tiny", "prompt": "x", **given}).status_code == 200
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}
    assert client.post("/v1/chat/completions", json=chat).status_code == 200
    assert [request.max_tokens for request in world.engine.requests] == [expected, 4096]


def test_no_tokens_without_an_echo(sdk: openai.OpenAI, world: World) -> None:
    world.engine.script = lambda conversation: conversation.send(Started(1), Finished(0, "length"), DONE)
    answer = sdk.completions.create(model="tiny", prompt="x", max_tokens=0, logprobs=1)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("", "length")
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.tokens == []


# --- the older form -------------------------------------------------------------------------------------------------


def take(*tokens: TokenLogprob) -> dict[str, list[Any]]:
    return LegacyLogprobs().take(tokens)


def top(raw: bytes, logprob: float, number: int) -> TopLogprob:
    return TopLogprob(raw.decode("utf-8", "replace"), raw, logprob, number)


def chosen(raw: bytes, number: int, *candidates: TopLogprob, width: int | None = None) -> TokenLogprob:
    return TokenLogprob(raw.decode("utf-8", "replace"), raw, -1.0, number, candidates, width)


def test_parts_of_characters_are_told_apart() -> None:
    found = take(chosen(b"\xf0", 1, top(b"\xf0", -1.0, 1), top(b"\xe2", -2.0, 2), top(b" \x9f\\", -3.0, 3)))
    assert found["tokens"] == ["bytes:\\xf0"]
    assert found["top_logprobs"] == [{"bytes:\\xf0": -1.0, "bytes:\\xe2": -2.0, "bytes: \\x9f\\x5c": -3.0}]


def test_candidates_with_the_same_text_are_all_there() -> None:
    same = [top(b"A", -1.0, 1), top(b"A", -2.0, 2), top(b"A", -3.0, 3), top(b"\xf0", -4.0, 4), top(b"\xf0", -5.0, 5)]
    (candidates,) = take(chosen(b"A", 2, *same))["top_logprobs"]
    # The chosen one has the name that stands among the tokens.
    expected = {"bytes:\\x41": -1.0, "A": -2.0, "token_id:3": -3.0, "bytes:\\xf0": -4.0, "token_id:5": -5.0}
    assert list(candidates.items()) == list(expected.items())


def test_places_in_the_text() -> None:
    legacy = LegacyLogprobs()
    first = legacy.take([chosen(b"<s>", 1, width=0), chosen(b" caf", 2, width=3), chosen(b"\xc3", 3)])
    assert first["text_offset"] == [0, 0, 3]
    assert legacy.take([chosen(b"\xa9", 4), chosen(b"!", 5), chosen(b"</s>", 6, width=0)])["text_offset"] == [3, 4, 5]
