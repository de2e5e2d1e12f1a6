"""What a chat request says of its prompt: earlier reasoning, and where the answer begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.fakes.scripted import INFO
from tests.unit.api.conftest import World

USER = {"role": "user", "content": "Hi"}
BEGUN = {"role": "assistant", "content": "Hel"}
THINKING = (
    "{% for m in messages %}{{ m.role }}:{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}"
    "{{ m.content }};{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture(autouse=True)
def _thinking(world: World) -> None:
    info = replace(INFO, chat_template=THINKING)
    world.supervisor.states["tiny"] = world.supervisor.run("tiny", world.engine, info)


def chat(client: FlaskClient, world: World, *messages: Any, **more: Any) -> str:
    """The prompt that the engine is given, which is what apply-template says."""
    body = {"model": "tiny", "messages": messages, **more}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.json
    prompt = world.engine.requests[-1].prompt
    laid_out = client.post("/v1/apply-template", json=body)
    assert laid_out.json == {"prompt": prompt}
    assert isinstance(prompt, str)
    return prompt


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"reasoning_content": "be nice"}, "(be nice)Hel"),
        ({"reasoning": "be nice"}, "(be nice)Hel"),
        ({"reasoning": "never", "reasoning_content": "be nice"}, "(be nice)Hel"),
        ({"reasoning": "be nice", "reasoning_content": ""}, "(be nice)Hel"),
        ({"reasoning": None, "reasoning_content": None}, "Hel"),
    ],
)
def test_earlier_reasoning_reaches_the_template(
    client: FlaskClient, world: World, more: dict[str, Any], said: str
) -> None:
    assert chat(client, world, USER, {**BEGUN, **more}, USER) == f"user:Hi;assistant:{said};user:Hi;assistant:"


@pytest.mark.parametrize(
    ("more", "prompt"),
    [
        ({}, "user:Hi;assistant:Hel;assistant:"),
        ({"add_generation_prompt": True, "continue_final_message": False}, "user:Hi;assistant:Hel;assistant:"),
        ({"add_generation_prompt": False}, "user:Hi;assistant:Hel;"),
        ({"add_generation_prompt": False, "continue_final_message": True}, "user:Hi;assistant:Hel"),
        ({"continue_final_message": True}, "user:Hi;assistant:Hel"),
    ],
)
def test_where_the_answer_begins(client: FlaskClient, world: World, more: dict[str, Any], prompt: str) -> None:
    assert chat(client, world, USER, BEGUN, **more) == prompt


@pytest.mark.parametrize("path", ["chat/completions", "apply-template"])
@pytest.mark.parametrize(
    ("messages", "more", "param", "words"),
    [
        ([USER], {"continue_final_message": True}, "continue_final_message", "needs an assistant's message"),
        (
            [USER, BEGUN],
            {"continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message",
            "set that to false",
        ),
        ([USER, BEGUN], {"continue_final_message": "yes"}, "continue_final_message", "true or false"),
        ([{**USER, "reasoning_content": "x"}], {}, "messages.0.reasoning_content", "assistant's message"),
        ([{**USER, "reasoning": "x"}], {}, "messages.0.reasoning", "assistant's message"),
        ([USER, {**BEGUN, "reasoning_content": {"a": 1}}], {}, "messages.1.reasoning_content", "a string"),
    ],
)
def test_what_cannot_be_meant(
    client: FlaskClient, world: World, path: str, messages: list[Any], more: dict[str, Any], param: str, words: str
) -> None:
    answer = client.post(f"/v1/{path}", json={"model": "tiny", "messages": messages, **more})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param), answer.json
    assert words in answer.json["error"]["message"]
    assert world.engine.requests == []


def test_a_message_that_would_be_lost_is_named(client: FlaskClient, world: World) -> None:
    info = replace(INFO, chat_template="{{ messages[-1].content }}")
    world.supervisor.states["tiny"] = world.supervisor.run("tiny", world.engine, info)
    body = {"model": "tiny", "messages": [USER, BEGUN, {"role": "user", "content": "So"}], "stream": True}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    error = answer.json["error"]
    assert (error["param"], error["code"]) == ("messages.0", "chat_template_error")
    assert world.engine.requests == []
