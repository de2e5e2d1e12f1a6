"""What a model thinks before it answers: told apart in messages, deltas and usage."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from flask.testing import FlaskClient

from janflask.ipc.messages.engine import Chunk, Finished, Started
from janflask.parsing.deltas import TokenLogprob
from tests.fakes.scripted import DONE, Conversation, say
from tests.unit.api.conftest import World
from tests.unit.api.stored import refused

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
    "{% endif %}{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<assistant>"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
OPENING = TEMPLATE.removesuffix("{% endif %}{% endif %}") + "{% else %}<think>\n{% endif %}{% endif %}"
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
ANSWER = ("<thi", "nk>\nHm", ", so", "\n</think>", "\n\nHello", "!")


@pytest.fixture(autouse=True)
def _thinking(world: World) -> None:
    world.runs_as(chat_template=TEMPLATE)
    world.engine.script = say(*ANSWER)


def whole(client: FlaskClient, **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/chat/completions", json={**CHAT, **more})
    assert answer.status_code == 200, answer.json
    assert isinstance(answer.json, dict)
    return answer.json


def streamed(client: FlaskClient, **more: Any) -> list[dict[str, Any]]:
    """The deltas."""
    answer = client.post("/v1/chat/completions", json={**CHAT, "stream": True, **more})
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    return [choice["delta"] for line in lines[:-1] for choice in json.loads(line)["choices"]]


def test_a_message_has_thoughts_and_words(client: FlaskClient) -> None:
    answer = whole(client)
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Hello!",
        "refusal": None,
        "reasoning_content": "Hm, so",
    }
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 4}


def test_deltas_have_one_or_the_other(client: FlaskClient) -> None:
    assert streamed(client) == [
        {"role": "assistant", "content": "", "refusal": None},
        {"reasoning_content": "Hm"},
        {"reasoning_content": ", so"},
        {"content": "Hello"},
        {"content": "!"},
        {},
    ]


@pytest.mark.parametrize("form", ["auto", "deepseek", None])
def test_the_usual_form(client: FlaskClient, form: str | None) -> None:
    assert whole(client, reasoning_format=form)["choices"][0]["message"]["reasoning_content"] == "Hm, so"


def test_without_a_form_it_is_what_the_model_wrote(client: FlaskClient, world: World) -> None:
    answer = whole(client, reasoning_format="none")
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "".join(ANSWER), "refusal": None}
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}
    assert world.engine.requests[-1].markers == ()


def test_the_engine_is_told_what_is_looked_for(client: FlaskClient, world: World) -> None:
    whole(client)
    assert world.engine.requests[-1].markers == ("<think>", "</think>")


def test_a_template_that_opens_the_block_itself(client: FlaskClient, world: World) -> None:
    world.runs_as(chat_template=OPENING)
    world.engine.script = say("Hm", "</think>", "Hello")
    message = whole(client)["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm", "Hello")
    assert str(world.engine.requests[-1].prompt).endswith("<assistant><think>\n")
    world.engine.script = say("Hello")
    message = whole(client, enable_thinking=False)["choices"][0]["message"]
    assert (message.get("reasoning_content"), message["content"]) == (None, "Hello")
    assert str(world.engine.requests[-1].prompt).endswith("<think>\n\n</think>\n\n")


def test_thoughts_that_max_tokens_cut(client: FlaskClient, world: World) -> None:
    world.engine.script = say("<think>Hm, ", reason="length")
    choice = whole(client)["choices"][0]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("Hm,", "")
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("begun", "said", "thought", "content"),
    [
        ({"content": "<think>\nHm"}, (" so</think>", "Yes"), " so", "Yes"),  # as another server gives it
        ({"content": "Hel"}, ("lo <think>",), None, "lo <think>"),
        ({"content": "Hel", "reasoning_content": "Hm"}, ("lo",), None, "lo"),
    ],
)
def test_a_message_that_is_gone_on_with(
    client: FlaskClient, world: World, begun: dict[str, Any], said: tuple[str, ...], thought: str | None, content: str
) -> None:
    world.engine.script = say(*said)
    messages = [*CHAT["messages"], {"role": "assistant", **begun}]
    message = whole(client, messages=messages, continue_final_message=True)["choices"][0]["message"]
    assert (message.get("reasoning_content"), message["content"]) == (thought, content)


def test_log_probabilities_list_every_token(client: FlaskClient, world: World) -> None:
    def script(conversation: Conversation) -> None:
        chunks = [Chunk(0, text, (TokenLogprob(text, text.encode(), -0.5, 1),)) for text in ANSWER]
        conversation.send(Started(7), *chunks, Finished(0, "stop"), DONE)

    world.engine.script = script
    answer = whole(client, logprobs=True)
    listed = answer["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in listed] == list(ANSWER)
    assert answer["choices"][0]["message"]["content"] == "Hello!"


def test_choices_think_for_themselves(client: FlaskClient) -> None:
    answer = whole(client, n=3)
    assert [choice["message"]["reasoning_content"] for choice in answer["choices"]] == ["Hm, so"] * 3
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 12}


def test_the_sdk_finds_it(server: str) -> None:
    sdk = openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0)
    message = sdk.chat.completions.create(model="tiny", messages=CHAT["messages"]).choices[0].message
    assert (message.content, message.reasoning_content) == ("Hello!", "Hm, so")  # type: ignore[attr-defined]
    with sdk.chat.completions.stream(model="tiny", messages=CHAT["messages"]) as stream:
        assert stream.get_final_completion().choices[0].message.content == "Hello!"


@pytest.mark.parametrize("value", ["deepseek-legacy", "raw", 7, {"a": 1}])
def test_other_forms_are_refused(client: FlaskClient, value: Any) -> None:
    refused(client.post("/v1/chat/completions", json={**CHAT, "reasoning_format": value}), 400, "reasoning_format")


def test_a_completion_is_text(client: FlaskClient) -> None:
    answer = client.post("/v1/completions", json={"model": "tiny", "prompt": "Hi"}).get_json()
    assert answer["choices"][0]["text"] == "".join(ANSWER)
