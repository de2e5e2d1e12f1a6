"""What an answer is expected to say: OpenAI's ``prediction``, and what is told of guesses in ``usage``."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
import pytest
from flask.testing import FlaskClient

from janflask.api.answers.inference import usage_object
from janflask.inference.deltas import Done
from janflask.inference.totals import total
from janflask.ipc.messages.engine import MAX_TEXT
from janflask.ipc.messages.generation import Timings, Usage
from janflask.schemas.chat import ChatRequestSchema
from tests.unit.api.conftest import World

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
TIMINGS = Timings(cache_n=0, prompt_n=1, prompt_ms=1.0, predicted_n=1, predicted_ms=1.0, queue_ms=0.0)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("def f(): pass", "def f(): pass"),
        ("", ""),
        ([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "one\ntwo"),
    ],
)
def test_it_is_a_text_or_its_parts(content: object, text: str) -> None:
    request = ChatRequestSchema().load({**CHAT, "prediction": {"type": "content", "content": content}})
    assert request.prediction == text


def test_without_it_nothing_is_expected() -> None:
    assert ChatRequestSchema().load(CHAT).prediction == ""
    assert ChatRequestSchema().load({**CHAT, "prediction": None}).prediction == ""


def test_a_stored_answer_does_without_it() -> None:
    stored = {**CHAT, "store": True}
    expected = {**stored, "prediction": {"type": "content", "content": "x"}}
    assert ChatRequestSchema().load(expected) == ChatRequestSchema().load(stored)


def test_it_goes_with_other_fields() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    more = {"n": 3, "logprobs": True, "presence_penalty": 1.0, "tools": [tool], "max_completion_tokens": 9}
    request = ChatRequestSchema().load({**CHAT, **more, "prediction": {"type": "content", "content": "x"}})
    assert (request.prediction, request.n, request.max_tokens) == ("x", 3, 9)


@pytest.mark.parametrize(
    ("prediction", "messages"),
    [
        ("text", {"_schema": ["must be a JSON object"]}),
        ({"content": "x"}, {"type": ["is required"]}),
        ({"type": "text", "content": "x"}, {"type": ["must be one of content, not 'text'"]}),
        ({"type": "content"}, {"content": ["is required"]}),
        ({"type": "content", "content": None}, {"content": ["must not be null"]}),
        ({"type": "content", "content": 1}, {"content": ["must be a string or a list of text parts, not a number"]}),
        (
            {"type": "content", "content": [{"type": "image_url"}]},
            {"content": {0: {"type": ["must be text, the models here read nothing else, not a picture (image_url)"]}}},
        ),
    ],
)
def test_what_it_cannot_be_is_named(prediction: object, messages: dict[str, Any]) -> None:
    with pytest.raises(ma.ValidationError) as caught:
        ChatRequestSchema().load({**CHAT, "prediction": prediction})
    found = caught.value.messages_dict["prediction"]
    assert found == messages, found


def test_an_engine_is_told_it_and_no_more_of_it_than_it_cuts_into_tokens_at_once(
    client: FlaskClient, world: World
) -> None:
    for content in ("as before", "x" * (MAX_TEXT + 1)):
        body = {**CHAT, "prediction": {"type": "content", "content": content}}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert world.engine.requests[-1].prediction == content[:MAX_TEXT]


def test_usage_tells_what_came_true_where_it_is_known() -> None:
    known = Usage(
        prompt_tokens=1,
        completion_tokens=9,
        cached_tokens=0,
        accepted_prediction_tokens=5,
        rejected_prediction_tokens=2,
    )
    unknown = Usage(prompt_tokens=1, completion_tokens=1, cached_tokens=0)
    guessed = {"reasoning_tokens": 0, "accepted_prediction_tokens": 5, "rejected_prediction_tokens": 2}
    assert usage_object(known)["completion_tokens_details"] == guessed
    assert usage_object(known)["total_tokens"] == 10
    assert usage_object(unknown)["completion_tokens_details"] == {"reasoning_tokens": 0}
    both = total([Done(known, TIMINGS), Done(unknown, TIMINGS), Done(known, TIMINGS)]).usage
    assert (both.accepted_prediction_tokens, both.rejected_prediction_tokens) == (10, 4)
    neither = total([Done(unknown, TIMINGS), Done(unknown, TIMINGS)]).usage
    assert neither.accepted_prediction_tokens is None
