"""POST /v1/embeddings over a scripted engine."""

from __future__ import annotations

import struct
from base64 import b64decode
from dataclasses import replace
from typing import Any

import openai
import pytest
from flask.testing import FlaskClient

from janflask.errors import ContextLengthExceededError, EngineCrashedError, InvalidRequestError, QueueFullError
from janflask.inference.local import embedding as service
from janflask.ipc.messages.engine import Embed
from tests.fakes.scripted import INFO
from tests.unit.api.conftest import World
from tests.unit.api.test_api_docs import check_fits

TENTH = struct.unpack("<f", struct.pack("<f", 0.1))[0]


def post(client: FlaskClient, **body: Any) -> Any:
    response = client.post("/v1/embeddings", json={"model": "tiny", **body})
    return response.status_code, response.json


def document(client: FlaskClient) -> Any:
    return client.get("/openapi.json").json


def test_an_answer_is_openais(client: FlaskClient) -> None:
    status, answer = post(client, input=["Hi", "Hello"], user="somebody", anything=1)
    assert status == 200
    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [2.0, TENTH, TENTH, TENTH]},
            {"object": "embedding", "index": 1, "embedding": [5.0, TENTH, TENTH, TENTH]},
        ],
        "model": "tiny",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    check_fits(document(client), answer, {"$ref": "#/components/schemas/EmbeddingList"})


def test_every_kind_of_input(client: FlaskClient, world: World) -> None:
    for given, inputs in [
        ("Hi", ("Hi",)),
        (["Hi"], ("Hi",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        ([" "], (" ",)),
    ]:
        assert post(client, input=given)[0] == 200
        assert world.engine.embedded.pop() == Embed(inputs)


def test_bad_bodies_are_named(client: FlaskClient, world: World) -> None:
    bad: list[tuple[dict[str, Any], str, str]] = [
        ({}, "input", "is required"),
        ({"input": None}, "input", "must not be null"),
        ({"input": ""}, "input", "must not be empty"),
        ({"input": []}, "input", "must hold at least one input"),
        ({"input": ["a", ""]}, "input.1", "must not be empty"),
        ({"input": [[1], []]}, "input.1", "at least one token id"),
        ({"input": ["a", 1]}, "input.1", "must be a string or a list of token ids"),
        ({"input": [1, "a"]}, "input.1", "must be a token id"),
        ({"input": [[1, -1]]}, "input.0.1", "from 0"),
        ({"input": 5}, "input", "must be a string"),
        ({"input": {"a": 1}}, "input", "must be a string"),
        ({"input": ["a"] * 2049}, "input", "must hold at most 2048 inputs, not 2049"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "must be float or base64, not hex"),
        ({"input": "a", "encoding_format": 1}, "encoding_format", "must be a string"),
        ({"input": "a", "dimensions": 0}, "dimensions", "from 1"),
        ({"input": "a", "dimensions": "4"}, "dimensions", "whole number"),
        ({"input": "a", "model": None}, "model", "must not be null"),
    ]
    for body, param, says in bad:
        status, answer = post(client, **body)
        assert (status, answer["error"]["param"]) == (400, param), body
        assert says in answer["error"]["message"], body
    assert world.engine.embedded == []


def test_base64_is_the_numbers_bytes(client: FlaskClient) -> None:
    _, answer = post(client, input="Hi", encoding_format="base64")
    assert struct.unpack("<4f", b64decode(answer["data"][0]["embedding"])) == (2.0, TENTH, TENTH, TENTH)
    check_fits(document(client), answer, {"$ref": "#/components/schemas/EmbeddingList"})


def test_dimensions_are_the_engines_business(client: FlaskClient, world: World) -> None:
    _, answer = post(client, input="Hi", dimensions=2)
    assert answer["data"][0]["embedding"] == [2.0, TENTH]
    assert world.engine.embedded[0].dimensions == 2


@pytest.mark.parametrize("encoding", [openai.omit, "float", "base64"])
def test_the_sdk(sdk: openai.OpenAI, encoding: Any) -> None:
    """By default it asks for base64 and gives numbers."""
    answer = sdk.embeddings.create(model="tiny", input=["Hi", "Hello"], encoding_format=encoding)
    found = [item.embedding for item in answer.data]
    if encoding == "base64":
        found = [list(struct.unpack("<4f", b64decode(text))) for text in found]
    assert found == [[2.0, TENTH, TENTH, TENTH], [5.0, TENTH, TENTH, TENTH]]
    assert [item.index for item in answer.data] == [0, 1]
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("tiny", 7, 7)


def test_many_inputs_are_asked_for_in_parts(client: FlaskClient, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_ANSWER", 3 * 4 * 4)
    info = replace(INFO, embedding_width=4)
    world.supervisor.states["tiny"] = world.supervisor.run("tiny", world.engine, info)
    _, answer = post(client, input=[str(number) * number for number in range(1, 9)])
    assert [(len(part.inputs), part.first) for part in world.engine.embedded] == [(3, 0), (3, 3), (2, 6)]
    assert [item["embedding"][0] for item in answer["data"]] == list(range(1, 9))
    assert [item["index"] for item in answer["data"]] == list(range(8))
    assert answer["usage"]["prompt_tokens"] == 36


@pytest.mark.parametrize(
    ("error", "status", "code", "param"),
    [
        (ContextLengthExceededError("input.1: too long", param="input.1"), 400, "context_length_exceeded", "input.1"),
        (InvalidRequestError("this model makes no embeddings", param="model"), 400, "invalid_request", "model"),
        (QueueFullError("full", retry_after=2), 429, "queue_full", None),
        (EngineCrashedError("gone"), 503, "engine_crashed", None),
    ],
)
def test_what_the_engine_refuses(
    client: FlaskClient, world: World, error: Exception, status: int, code: str, param: str | None
) -> None:
    world.engine.refusal = error
    got, answer = post(client, input=["a", "b"])
    assert (got, answer["error"]["code"], answer["error"]["param"]) == (status, code, param)


def test_a_model_that_is_not_running_is_started(client: FlaskClient, world: World) -> None:
    world.supervisor.states.clear()
    assert post(client, input="Hi")[0] == 200
    assert [start.model_id for start in world.supervisor.starts] == ["tiny"]


def test_an_unknown_model(client: FlaskClient) -> None:
    response = client.post("/v1/embeddings", json={"model": "nobody", "input": "Hi"})
    assert (response.status_code, response.json["error"]["code"]) == (404, "model_not_found")
