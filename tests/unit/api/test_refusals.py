"""Refusals read as sentences: the field's name, and then what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import marshmallow as ma
import pytest
from flask.testing import FlaskClient

from janflask.api.views import runs as _runs  # noqa: F401 - loads every schema of requests
from janflask.schemas.sampling import Base
from tests.unit.api.conftest import World

ODD_VALUES: list[Any] = [{"type": "json_object"}, ["x", {}], "x", 5, True, False, 0.5, -7]
VERBS = r"(is|are|was|must|can't|cannot|needs?|has|have|asks|takes)\b"


def all_schemas(base: type[Base] = Base) -> Iterator[type[Base]]:
    yield base
    for child in base.__subclasses__():
        yield from all_schemas(child)


def refusals() -> list[Any]:
    """(schema, field, what is said of it) for each field that a schema refuses by name."""
    found = {}
    for schema in all_schemas():
        for name, reason in getattr(schema, "REFUSED", {}).items():
            messages = [message for value in ODD_VALUES if (message := reason(value)) is not None]
            found[schema.__name__, name] = messages[0] if messages else None
    return [pytest.param(name, message, id=f"{schema}-{name}") for (schema, name), message in found.items()]


@pytest.mark.parametrize(("name", "message"), refusals())
def test_a_refusal_goes_on_behind_the_fields_name(name: str, message: str | None) -> None:
    assert message is not None, "nothing that was tried is refused"
    reads_well(name, message)


def reads_well(name: str, message: str) -> None:
    sentence = f"{name} {message}"
    assert re.match(VERBS, message), f"no verb behind the name: {sentence}"
    assert not re.search(r"\b(\w+)\W+\1\b", sentence), f"it stutters: {sentence}"
    assert f"`{name}`" not in message, f"the name comes twice: {sentence}"


CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
NAMED = {"type": "function", "function": {"name": "f"}}
OTHER = {"type": "function", "function": {"name": "g"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"tools": TOOLS, "tool_choice": OTHER},
            "tool_choice.function.name is none of the request's tools, which are f",
        ),
        (
            {"tools": TOOLS, "tool_choice": {"type": "custom"}},
            "tool_choice.type must be function or allowed_tools, not",
        ),
        ({"reasoning": {"exclude": True}}, "reasoning.exclude must be false: what a model thinks is told"),
        ({"tool_choice": "required"}, "tool_choice needs `tools`, and the request has none"),
        ({"tool_choice": NAMED}, "tool_choice needs `tools`, and the request has none"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice needs `tools`, and the request has none"),
        ({"functions": [{}]}, "functions.0.name is required"),
        ({"function_call": {"name": "f"}}, "function_call needs `functions`"),
        ({"grammar": "root ::= x"}, "grammar: the rule root uses x, which is not there"),
        ({"response_format": {"type": "json"}}, "response_format.type must be one of text, json_object, json_schema"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages.0.tool_calls.0.id is required"),
        ({"messages": [{"role": "assistant", "audio": {"id": "x"}}]}, "messages.0.audio is not supported yet"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.type must be text, the models here read nothing else, not a picture (image_url)",
        ),
        ({"logit_bias": {"x": 1}}, "logit_bias.x must have a token id for its key"),
    ],
)
def test_what_a_chat_is_told(client: FlaskClient, change: dict[str, Any], message: str) -> None:
    response = client.post("/v1/chat/completions", json={**CHAT, **change})
    assert response.status_code == 400
    told = response.json["error"]["message"]
    assert told.startswith(message)
    assert not re.search(r"\b(\w+)\W+\1\b", told)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"tools": TOOLS, "functions": [{"name": "f"}]}, "functions are not supported in a run: use `tools`"),
        ({"tool_choice": "required"}, "tool_choice needs tools"),
        ({"n": 2}, "n must be 1: a run makes one answer"),
    ],
)
def test_what_a_run_is_told(client: FlaskClient, body: dict[str, Any], message: str) -> None:
    thread_id = client.post("/v1/threads", json={}).json["id"]
    response = client.post(f"/v1/threads/{thread_id}/runs", json={"model": "tiny", **body})
    assert response.status_code == 400
    assert response.json["error"]["message"].startswith(message)


def test_embeddings_are_not_streamed(client: FlaskClient, world: World) -> None:
    body = {"model": "tiny", "input": "x"}
    response = client.post("/v1/embeddings", json={**body, "stream": True})
    assert (response.status_code, response.json["error"]["param"]) == (400, "stream")
    assert client.post("/v1/embeddings", json={**body, "stream": False}).status_code == 200


def test_the_check_itself() -> None:
    for name, message in [
        ("tools", "tools are not supported"),
        ("tools", "only with care"),
        ("grammar", "is not not supported"),
        ("lora", "is not supported: leave `lora` out"),
    ]:
        with pytest.raises(AssertionError):
            reads_well(name, message)
    assert issubclass(Base, ma.Schema)
