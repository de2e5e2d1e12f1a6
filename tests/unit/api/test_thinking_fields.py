"""How much a model is to think, in all the forms in which clients say so."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import marshmallow as ma
import pytest
from flask.testing import FlaskClient

from janflask.models.parameters import MAX_TOKENS, thought_tokens
from janflask.schemas.chat import ChatRequestSchema
from janflask.schemas.runs import NewRunSchema
from tests.fakes.scripted import INFO
from tests.unit.api.conftest import World
from tests.unit.api.stored import refused

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("said", "limit", "variables"),
    [
        ({}, None, {}),
        ({"reasoning_budget": 5}, 5, {}),
        ({"reasoning_budget": 0}, 0, {}),
        ({"reasoning_budget": -1}, -1, {}),
        ({"reasoning_budget_tokens": 5}, 5, {}),
        ({"thinking_budget_tokens": 5}, 5, {}),
        ({"thinking_token_budget": 5}, 5, {}),
        ({"thinking_budget": 5}, 5, {}),
        ({"chat_template_kwargs": {"thinking_budget": 5}}, 5, {"thinking_budget": 5}),
        ({"chat_template_kwargs": {"thinking_budget": 5}, "reasoning_budget": 7}, 7, {"thinking_budget": 5}),
        ({"chat_template_kwargs": {"thinking_budget": "5"}}, None, {"thinking_budget": "5"}),
        ({"reasoning": {"max_tokens": 5}}, 5, {}),
        ({"reasoning": {"effort": "low", "exclude": False, "summary": "auto"}}, None, {"reasoning_effort": "low"}),
        ({"reasoning": {"effort": "none"}}, None, {"enable_thinking": False}),
        ({"reasoning": {"enabled": True, "max_tokens": None}}, None, {"enable_thinking": True}),
        ({"reasoning": {"enabled": False}}, None, {"enable_thinking": False}),
        ({"reasoning": {"max_tokens": 5}, "thinking_budget": 5}, 5, {}),
        ({"reasoning": {}}, None, {}),
        ({"reasoning": None, "thinking": None, "think": None}, None, {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, 5, {"enable_thinking": True}),
        ({"thinking": {"type": "disabled"}}, None, {"enable_thinking": False}),
        ({"thinking": {"type": "adaptive"}}, None, {}),
        ({"think": True}, None, {"enable_thinking": True}),
        ({"think": False}, None, {"enable_thinking": False}),
        ({"think": "high"}, None, {"reasoning_effort": "high"}),
    ],
)
def test_forms(said: dict[str, Any], limit: int | None, variables: dict[str, Any]) -> None:
    request = ChatRequestSchema().load({**CHAT, **said})
    assert (request.thought_tokens, request.template_kwargs) == (limit, variables)
    assert thought_tokens(NewRunSchema().load(said).parameters) == limit


@pytest.mark.parametrize(
    ("said", "messages"),
    [
        ({"reasoning_budget": -2}, {"reasoning_budget": ["must be from -1 to 16777216, not -2"]}),
        ({"reasoning_budget": MAX_TOKENS + 1}, {"reasoning_budget": ["must be from -1 to 16777216, not 16777217"]}),
        ({"reasoning_budget": 1.5}, {"reasoning_budget": ["must be a whole number, not 1.5"]}),
        ({"thinking_budget": "5"}, {"thinking_budget": ["must be a whole number, not a string"]}),
        ({"reasoning": {"max_tokens": -1}}, {"reasoning": {"max_tokens": ["must be from 0 to 16777216, not -1"]}}),
        ({"reasoning": 5}, {"reasoning": {"_schema": ["must be an object"]}}),
        ({"thinking": {"type": "on"}}, {"thinking": {"type": ["must be one of enabled, disabled, adaptive, auto, not 'on'"]}}),  # noqa: E501
        ({"thinking": True}, {"thinking": {"_schema": ["must be an object"]}}),
        ({"reasoning": {"max_tokens": 5}, "reasoning_budget": 6}, {"reasoning": {"max_tokens": ["must be the same as `reasoning_budget`, or left out"]}}),  # noqa: E501
        ({"reasoning": {"enabled": True}, "think": False}, {"think": ["must be the same as `enable_thinking`, or left out"]}),  # noqa: E501
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_named(said: dict[str, Any], messages: dict[str, Any]) -> None:
    for schema, body in ((ChatRequestSchema(), {**CHAT, **said}), (NewRunSchema(), said)):
        with pytest.raises(ma.ValidationError) as found:
            schema.load(body)
        assert found.value.messages == messages


def test_errors_name_the_place(client: FlaskClient) -> None:
    for said, param in [
        ({"reasoning": {"exclude": True}}, "reasoning.exclude"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning": "high"}, "reasoning"),
        ({"think": 5}, "think"),
        ({"thinking_budget": 5, "reasoning": {"max_tokens": 6}}, "reasoning.max_tokens"),
        ({"thinking_budget": 5, "reasoning_budget": 6}, "thinking_budget"),
        ({"reasoning_budget_message": "Enough."}, "reasoning_budget_message"),
    ]:
        refused(client.post("/v1/chat/completions", json={**CHAT, **said}), 400, param)


def test_a_completion_is_not_taken_apart(client: FlaskClient) -> None:
    for name in ("reasoning_budget", "thinking_budget"):
        body = {"model": "tiny", "prompt": "Hi", name: 5}
        refused(client.post("/v1/completions", json=body), 400, name)
        assert client.post("/v1/completions", json={**body, name: -1}).status_code == 200


def test_a_models_own_limit_is_kept(world: World, client: FlaskClient) -> None:
    assert client.patch("/v1/models/tiny", json={"parameters": {"thinking_budget": "7"}}).status_code == 200
    stored = json.loads((world.settings.models_dir / "tiny" / "model.json").read_text())
    assert stored["parameters"] == {"reasoning_budget": 7}


def test_the_engine_is_told_the_limit(world: World, client: FlaskClient) -> None:
    template = "{% for m in messages %}{{ m.content }}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{% endfor %}"  # noqa: E501
    info = replace(INFO, chat_template=template)
    world.supervisor.states["tiny"] = world.supervisor.run("tiny", world.engine, info)

    def limit(**said: Any) -> int | None:
        assert client.post("/v1/chat/completions", json={**CHAT, **said}).status_code == 200
        watch = world.engine.requests[-1].watch
        return None if watch is None else watch.thought_tokens

    assert [limit(), limit(reasoning={"max_tokens": 5}), limit(reasoning_budget=-1)] == [None, 5, None]
    world.write_model(parameters={"reasoning_budget": 7})
    assert [limit(), limit(reasoning_budget=0), limit(reasoning_budget=-1)] == [7, 0, None]
