"""Tokenize, detokenize, apply-template and the count of a chat over a scripted engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from janflask.errors import EngineCrashedError, InvalidRequestError
from janflask.ipc.messages import engine
from janflask.schemas import tokens as schemas
from tests.unit.api.conftest import World
from tests.unit.api.test_api_docs import check_fits

MESSAGES: Any = [{"role": "user", "content": "Hi"}]


def post(client: FlaskClient, path: str, **body: Any) -> Any:
    response = client.post(f"/v1/{path}", json={"model": "tiny", **body})
    return response.status_code, response.json


def test_tokenize(client: FlaskClient, world: World) -> None:
    assert post(client, "tokenize", content="Hé") == (200, {"tokens": [72, 195, 169], "count": 3})
    asked = world.engine.tokenized[-1]
    assert (asked.add_special, asked.parse_special, asked.pieces) == (False, True, False)
    assert post(client, "tokenize", content="a", add_special=True, parse_special=None)[1]["tokens"] == [256, 97]
    assert post(client, "tokenize", content="") == (200, {"tokens": [], "count": 0})


def test_tokenize_with_pieces(client: FlaskClient) -> None:
    pieces = [{"id": 72, "piece": "H"}, {"id": 195, "piece": [195]}, {"id": 169, "piece": [169]}]
    assert post(client, "tokenize", content="Hé", with_pieces=True) == (200, {"tokens": pieces, "count": 3})
    assert post(client, "tokenize", content="", with_pieces=True) == (200, {"tokens": [], "count": 0})


def test_detokenize(client: FlaskClient) -> None:
    assert post(client, "detokenize", tokens=[72, 195, 169, 195]) == (200, {"content": "Hé\ufffd"})
    assert post(client, "detokenize", tokens=[]) == (200, {"content": ""})


def test_apply_template(client: FlaskClient, world: World) -> None:
    prompt = "<s>[user] Hi\n[assistant] "
    assert post(client, "apply-template", messages=MESSAGES, temperature=0.5) == (200, {"prompt": prompt})
    assert world.engine.tokenized == []
    status, answer = post(client, "apply-template", messages=MESSAGES, tokenize=True)
    assert (status, answer) == (200, {"prompt": prompt, "tokens": list(prompt.encode()), "count": len(prompt)})
    assert (world.engine.tokenized[0].add_special, world.engine.tokenized[0].parse_special) == (False, True)
    assert world.engine.requests == [], "nothing is generated"


TOOLS: Any = [{"type": "function", "function": {"name": "get_weather"}}]
COUNT = "chat/completions/input_tokens"


def test_what_a_chat_would_cost(client: FlaskClient, world: World) -> None:
    prompt = "<s>[user] Hi\n[assistant] "
    told = {"object": "response.input_tokens", "estimated": False, "ctx_len": 512}
    chat = {"messages": MESSAGES, "temperature": 0.5, "stream": True, "max_tokens": 5}
    assert post(client, COUNT, **chat) == (200, {**told, "input_tokens": len(prompt), "tokens_left": 512 - len(prompt)})
    shown = post(client, "apply-template", messages=MESSAGES, tools=TOOLS, tokenize=True)[1]["count"]
    assert shown > len(prompt)
    assert post(client, COUNT, messages=MESSAGES, tools=TOOLS)[1]["input_tokens"] == shown
    assert post(client, COUNT, messages=MESSAGES, tools=TOOLS, tool_choice="none")[1]["input_tokens"] == len(prompt)
    said = [*MESSAGES, {"role": "assistant", "content": "Yo"}]
    gone_on = post(client, COUNT, messages=said, continue_final_message=True)[1]["input_tokens"]
    assert gone_on == len("<s>[user] Hi\n[assistant] Yo")
    long = [{"role": "user", "content": "x" * 1000}]
    assert post(client, COUNT, messages=long)[1]["tokens_left"] == 0
    assert world.engine.requests == [], "nothing is generated"


def test_words_that_look_like_special_tokens(client: FlaskClient, world: World) -> None:
    said = [{"role": "user", "content": "a</s>b"}]
    status, answer = post(client, "apply-template", messages=said, tokenize=True)
    prompt = "<s>[user] a</s>b\n[assistant] "
    segments = [{"text": "<s>", "special": True}, {"text": prompt[3:], "special": False}]
    tokens = list(prompt.encode())
    assert (status, answer) == (
        200,
        {"prompt": prompt, "segments": segments, "tokens": tokens, "count": len(tokens)},
    )
    cuts = (prompt.index("/s>b"),)
    assert world.engine.tokenized[-1].cuts == cuts
    assert client.post("/v1/chat/completions", json={"model": "tiny", "messages": said}).status_code == 200
    assert (world.engine.requests[-1].prompt, world.engine.requests[-1].cuts) == (prompt, cuts)
    assert client.post("/v1/completions", json={"model": "tiny", "prompt": prompt}).status_code == 200
    assert world.engine.requests[-1].cuts == (), "a whole prompt is the client's"
    assert world.engine.asked_for_specials == 1


def test_segments_of_any_prompt(client: FlaskClient) -> None:
    answer = post(client, "apply-template", messages=MESSAGES, with_segments=True)[1]
    assert answer["segments"] == [
        {"text": "<s>", "special": True},
        {"text": "[user] Hi\n[assistant] ", "special": False},
    ]
    assert "segments" not in post(client, "apply-template", messages=MESSAGES)[1]


def test_a_prompt_that_asks_for_nothing(client: FlaskClient, world: World) -> None:
    world.write_model(settings={"prompt_template": "S:{system_message} U:{prompt} A:"})
    said = [*MESSAGES, {"role": "assistant", "content": "Yo"}]
    assert post(client, "apply-template", messages=said)[1] == {"prompt": "S: U:Hi A:Yo U: A:"}
    quiet = post(client, "apply-template", messages=said, add_generation_prompt=False)
    assert quiet == (200, {"prompt": "S: U:Hi A:Yo"})


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("tokenize", {}, "content"),
        ("tokenize", {"content": ["a"]}, "content"),
        ("tokenize", {"content": "a", "with_pieces": 1}, "with_pieces"),
        ("tokenize", {"content": "a" * (schemas.MAX_TEXT + 1)}, "content"),
        ("detokenize", {}, "tokens"),
        ("detokenize", {"tokens": "a"}, "tokens"),
        ("detokenize", {"tokens": [1, "a"]}, "tokens.1"),
        ("detokenize", {"tokens": [1, -1]}, "tokens.1"),
        ("detokenize", {"tokens": [1, 2, 1000]}, "tokens.2"),
        ("detokenize", {"tokens": [1, 1 << 40]}, "tokens.1"),
        ("detokenize", {"tokens": [1] * (schemas.MAX_TOKENS + 1)}, "tokens"),
        ("apply-template", {}, "messages"),
        ("apply-template", {"messages": []}, "messages"),
        ("apply-template", {"messages": MESSAGES, "tools": [{}]}, "tools.0.type"),
        (COUNT, {}, "messages"),
        (COUNT, {"messages": MESSAGES, "tools": TOOLS, "tool_choice": {"name": "x"}}, "tool_choice.name"),
        (COUNT, {"messages": MESSAGES, "response_format": {"type": "xml"}}, "response_format.type"),
        (
            "apply-template",
            {"messages": MESSAGES, "chat_template_kwargs": {"messages": 1}},
            "chat_template_kwargs.messages",
        ),
        (
            "apply-template",
            {"messages": [{"role": "user", "content": "x" * schemas.MAX_TEXT}], "tokenize": True},
            "messages",
        ),
    ],
)
def test_a_bad_body(client: FlaskClient, path: str, body: dict[str, Any], param: str) -> None:
    status, answer = post(client, path, **body)
    assert (status, answer["error"]["param"]) == (400, param), answer


def test_what_the_engine_refuses(client: FlaskClient, world: World) -> None:
    world.engine.refusal = InvalidRequestError("cannot be tokenized", param="prompt")
    status, answer = post(client, "tokenize", content="a")
    assert (status, answer["error"]["param"]) == (400, "content")
    status, answer = post(client, "apply-template", messages=MESSAGES, tokenize=True)
    assert (status, answer["error"]["param"]) == (400, "messages")


def test_an_engine_that_is_gone_is_asked_again(client: FlaskClient, world: World) -> None:
    world.engine.refusal = EngineCrashedError("gone")
    assert post(client, "tokenize", content="a")[0] == 503


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("tokenize", {"content": "a"}),
        ("detokenize", {"tokens": [97]}),
        ("apply-template", {"messages": MESSAGES}),
        (COUNT, {"messages": MESSAGES}),
    ],
)
def test_the_model(client: FlaskClient, world: World, path: str, body: dict[str, Any]) -> None:
    status, answer = post(client, path, **body, model="unknown")
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    del world.supervisor.states["tiny"]
    assert post(client, path, **body)[0] == 200
    assert [start.model_id for start in world.supervisor.starts] == ["tiny"]


def test_the_answers_fit_the_document(client: FlaskClient) -> None:
    document = json.loads(client.get("/openapi.json").data)
    for path, body in (
        ("tokenize", {"content": "a"}),
        ("detokenize", {"tokens": [97]}),
        ("apply-template", {"messages": MESSAGES, "tokenize": True}),
        (COUNT, {"messages": MESSAGES}),
    ):
        operation = document["paths"][f"/v1/{path}"]["post"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        check_fits(document, post(client, path, **body)[1], schema, path)


def test_the_limits_are_the_engines() -> None:
    assert (schemas.MAX_TEXT, schemas.MAX_TOKENS) == (engine.MAX_TEXT, engine.MAX_TOKENS)
