"""Constraints in requests: every server's spelling of them, what an engine is asked, and what is told of an answer."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from flask.testing import FlaskClient

from janflask.ipc.messages.constraint import ConstraintKind
from tests.fakes.scripted import say
from tests.unit.api.conftest import World

SCHEMA = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}, "required": ["a"]}
NAMED = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"model": "tiny", "prompt": "Hi"},
}
J, G, R = ConstraintKind.JSON_SCHEMA, ConstraintKind.GRAMMAR, ConstraintKind.REGEX


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("fields", "kind", "name"),
    [
        ({"response_format": NAMED}, J, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_object"}}, J, "response_format"),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, J, "response_format.schema"),
        ({"json_schema": SCHEMA}, J, "json_schema"),
        ({"json_schema": json.dumps(SCHEMA)}, J, "json_schema"),
        ({"grammar": 'root ::= "a"'}, G, "grammar"),
        ({"grammar": 'start: "a"'}, G, "grammar"),
        ({"ebnf": 'root ::= "a"'}, G, "grammar"),
        ({"grammar_string": 'root ::= "a"'}, G, "grammar"),
        ({"regex": "a+"}, R, "regex"),
        ({"regex_pattern": "a+"}, R, "regex"),
        ({"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}}, J, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "a+"}}, R, "structured_outputs.regex"),
        ({"structured_outputs": {"choice": ["a", "b"]}}, R, "structured_outputs.choice"),
        ({"structured_outputs": {"grammar": 'root ::= "a"'}}, G, "structured_outputs.grammar"),
        ({"structured_outputs": {"json_object": True}}, J, "structured_outputs.json_object"),
        ({"guided_json": SCHEMA}, J, "guided_json"),
        ({"guided_regex": "a+"}, R, "guided_regex"),
        ({"guided_choice": ["a", "b"]}, R, "guided_choice"),
        ({"guided_grammar": 'root ::= "a"'}, G, "guided_grammar"),
    ],
)
def test_what_an_engine_is_asked(
    client: FlaskClient, world: World, route: str, fields: dict[str, Any], kind: ConstraintKind, name: str
) -> None:
    world.engine.script = say('{"a":[]}')
    response = client.post(route, json={**ROUTES[route], **fields})
    assert response.status_code == 200, response.json
    asked = world.engine.requests.pop()
    watch = asked.watch
    assert (watch is None) == (route == "/v1/completions"), "a chat's answer may think first"
    constraint = asked.constraint if watch is None else watch.answer
    assert constraint is not None
    assert (constraint.kind, constraint.name) == (kind, name)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"response_format": NAMED, "regex": "a"}, "regex", "response_format and regex cannot be had together"),
        ({"structured_outputs": {"json": SCHEMA, "regex": "a"}}, "structured_outputs.regex", "cannot be had together"),
        ({"grammar": 'root ::= "a"', "ebnf": 'root ::= "b"'}, "ebnf", "must be the same"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "must be one of text, json_object, json_schema"),
        ({"response_format": {}}, "response_format.type", "must be one of"),
        ({"response_format": "json"}, "response_format", "must be an object"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "name and schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            "response_format.json_schema.name",
            "1 to 64 letters",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
            "is required",
        ),
        ({"json_schema": "{"}, "json_schema", "must be a JSON schema"),
        ({"json_schema": {"not": {}}}, "json_schema.not", "is not supported"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag", "is not supported"),
        ({"structured_outputs": {"choice": "ab"}}, "structured_outputs.choice", "must be a list of strings"),
        ({"structured_outputs": {"regex": 5}}, "structured_outputs.regex", "must be a string, not a number"),
        ({"guided_choice": [1]}, "guided_choice.0", "must be a string"),
        ({"regex": ["a"]}, "regex", "must be a string"),
    ],
)
def test_what_is_refused(
    client: FlaskClient, world: World, route: str, fields: dict[str, Any], param: str, words: str
) -> None:
    response = client.post(route, json={**ROUTES[route], **fields})
    assert response.status_code == 400
    error = response.json["error"]
    assert error["param"] == param
    assert words in error["message"]
    assert not world.engine.requests


@pytest.mark.parametrize("fields", [{"response_format": {"type": "text"}}, {"structured_outputs": {}}, {"grammar": ""}])
def test_what_asks_for_nothing(client: FlaskClient, world: World, fields: dict[str, Any]) -> None:
    assert client.post("/v1/completions", json={**ROUTES["/v1/completions"], **fields}).status_code == 200
    assert world.engine.requests.pop().constraint is None


def test_assistants_keep_no_other_form_than_response_format(client: FlaskClient) -> None:
    for fields in ({"regex": "a"}, {"json_schema": SCHEMA}, {"guided_choice": ["a"]}, {"ebnf": "x"}):
        response = client.post("/v1/assistants", json={"model": "tiny", **fields})
        assert (response.status_code, response.json["error"]["param"]) == (400, next(iter(fields)))


# --- answers that are not what was asked for --------------------------------------------------------------------------


def test_a_chat_says_so_in_its_refusal(sdk: openai.OpenAI, world: World) -> None:
    messages: Any = ROUTES["/v1/chat/completions"]["messages"]
    asked: Any = {"model": "tiny", "messages": messages, "response_format": NAMED}
    world.engine.script = say('{"a":', "[1,1]}")
    message = sdk.chat.completions.create(**asked).choices[0].message
    assert message.content == '{"a":[1,1]}'
    assert message.refusal is not None
    assert "(at a)" in message.refusal
    chunks = [choice for chunk in sdk.chat.completions.create(**asked, stream=True) for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in chunks) == message.content
    assert "".join(choice.delta.refusal or "" for choice in chunks) == message.refusal
    assert chunks[-1].finish_reason == "stop"
    world.engine.script = say('{"a":[1,2]}')
    assert sdk.chat.completions.create(**asked).choices[0].message.refusal is None
    world.engine.script = say('{"a":[1', reason="length")
    choice = sdk.chat.completions.create(**asked).choices[0]
    assert (choice.finish_reason, choice.message.refusal) == ("length", None)


def test_a_completion_says_so_in_an_error(client: FlaskClient, world: World) -> None:
    world.engine.script = say('{"a":[1,1]}')
    body = {**ROUTES["/v1/completions"], "json_schema": SCHEMA}
    response = client.post("/v1/completions", json=body)
    assert (response.status_code, response.json["error"]["code"]) == (500, "answer_not_as_asked")
    lines = client.post("/v1/completions", json={**body, "stream": True}).text.split("\n\n")
    assert '{\\"a\\":[1,1]}' in lines[0], "what was said is told"
    assert "answer_not_as_asked" in "".join(lines[1:])
    assert "[DONE]" not in "".join(lines)
