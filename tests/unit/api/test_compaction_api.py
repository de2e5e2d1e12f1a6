"""Compaction and cache diagnostics through the API, driven by the official SDK and parsed by its own types."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openai.types.responses import ResponseCompactionItem

from janflask.api.answers.response_events import ResponseEventWriter
from janflask.api.answers.response_objects import View, response_object
from janflask.api.plumbing.context import EXTENSION
from janflask.files import ids
from janflask.services import endings
from janflask.services.comparisons import COMPARISON
from janflask.services.seals import Seals
from janflask.storage.answers import AnswerDraft
from janflask.storage.records import MessageDraft, Run, RunKind, text_part
from tests.fakes.scripted import DONE, Conversation, say
from tests.unit.api.conftest import World
from tests.unit.api.responses import checked, files, kinds, strict

ASKED: dict[str, Any] = {"model": "tiny", "store": False}
TALK: list[Any] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "My cat is called Mimi."},
    {"role": "assistant", "content": "A long answer. " * 40},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at": "cat"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "a grey cat " * 40},
    {"role": "assistant", "content": "It is grey."},
    {"role": "user", "content": "What is its name?"},
]
MANAGED = [{"type": "compaction", "compact_threshold": 600}]


@pytest.fixture(autouse=True)
def _room(world: World) -> None:
    """A token of the scripted engine is a byte."""
    world.runs_as(ctx_len=8192)
    world.engine.script = summing


def summing(conversation: Conversation) -> None:
    asked = str(conversation.request.prompt)
    say("The cat is Mimi." if "You sum up conversations" in asked else "Hello")(conversation)


def prompts(world: World) -> list[str]:
    return [str(request.prompt) for request in world.engine.requests]


def test_a_conversation_is_compacted_and_gone_on_with(sdk: openai.OpenAI, world: World) -> None:
    compacted = sdk.responses.compact(model="tiny", input=TALK)
    assert compacted.object == "response.compaction"
    assert [item.type for item in compacted.output] == ["message", "message", "compaction"]
    first, second, item = compacted.output
    assert isinstance(item, ResponseCompactionItem)
    assert [each.content[0].text for each in (first, second)] == ["My cat is called Mimi.", "What is its name?"]  # type: ignore[union-attr]
    assert (compacted.usage.input_tokens, compacted.usage.output_tokens) == (7, 3)
    assert "a grey cat" in prompts(world)[0]
    assert "Be kind" not in prompts(world)[0]

    # The SDK's own type of an output has no user's message in it, and would warn.
    more = [*(each.to_dict(warnings=False) for each in compacted.output), {"role": "user", "content": "And how old?"}]
    sdk.responses.create(**ASKED, input=more)  # type: ignore[arg-type]
    shown = prompts(world)[-1]
    kept = ("Be kind.", "My cat is called Mimi.", "The cat is Mimi.", "And how old?")
    assert [shown.count(words) for words in kept] == [1, 1, 1, 1]
    assert "grey" not in shown
    sdk.responses.create(**ASKED, input=more[2:])  # type: ignore[arg-type]
    assert prompts(world)[-1] == shown, "the item stands for everything before it"
    assert {path.name for path in files(world)} == {"secrets", "seals"}


def test_a_threshold_makes_a_summary_the_first_item(sdk: openai.OpenAI, world: World) -> None:
    answer = strict(sdk.responses.create(**ASKED, input=TALK, context_management=MANAGED))  # type: ignore[arg-type]
    item, message = answer.output
    assert (item.type, message.type, answer.output_text) == ("compaction", "message", "Hello")
    shown = prompts(world)[-1]
    assert [words in shown for words in ("Be kind.", "The cat is Mimi.", "What is its name?", "grey")] == [
        True,
        True,
        True,
        False,
    ]
    # As a client goes on: everything, or only what is from the summary on.
    more = {"role": "user", "content": "Thanks."}
    sdk.responses.create(**ASKED, input=[*TALK, *answer.output, more])  # type: ignore[list-item]
    whole = prompts(world)[-1]
    sdk.responses.create(**ASKED, input=[*answer.output, more])  # type: ignore[list-item]
    assert prompts(world)[-1] == whole
    assert whole.startswith(shown)
    assert whole.endswith("Hello\n[user] Thanks.\n[assistant] ")


def test_its_events_come_before_those_of_the_words(sdk: openai.OpenAI) -> None:
    with sdk.responses.stream(**ASKED, input=TALK, context_management=MANAGED) as stream:  # type: ignore[arg-type]
        events = checked(stream)
        final = strict(stream.get_final_response())
    assert kinds(events)[:6] == [
        "created",
        "in_progress",
        "output_item.added",
        "output_item.done",
        "output_item.added",
        "content_part.added",
    ]
    assert [event.output_index for event in events if event.type == "response.output_item.done"] == [0, 1]
    added = next(event.item for event in events if event.type == "response.output_item.added")
    assert [item.type for item in final.output] == ["compaction", "message"]
    assert added == final.output[0]


def test_a_short_prompt_is_left_alone(sdk: openai.OpenAI, world: World) -> None:
    for managed in (MANAGED, [{"type": "compaction"}], [], None):
        answer = sdk.responses.create(**ASKED, input="Hi", context_management=managed)  # type: ignore[arg-type]
        assert [item.type for item in answer.output] == ["message"]
    assert len(world.engine.requests) == 4


def test_a_stored_one_is_told_the_same_by_its_events(world: World) -> None:
    seals, now = Seals(world.settings.secrets_dir), ids.now_ms()
    run = Run(
        id=ids.new_answer_id(ids.RESPONSE, ids.new_id(ids.THREAD)),
        thread_id="thread_1",
        assistant_id="jan",
        message_id=ids.new_id(ids.MESSAGE),
        step_id="step_1",
        created_ms=now,
        expires_ms=now,
        model="tiny",
        kind=RunKind.RESPONSE,
        compaction={"message_id": "msg_1", "encrypted_content": "jf1.x", "at": now},
    )
    writer = ResponseEventWriter(run, seals)
    told = writer.created() + writer.in_progress() + writer.compacted() + writer.text("Hello")
    told += writer.ended(replace(run, replied_ms=now, **endings.ended("stop")))
    item = {"id": "cmp_1", "type": "compaction", "encrypted_content": "jf1.x"}
    assert told.count(b"output_item.added") == told.count(b"output_item.done") == 4  # twice two
    assert writer.response()["output"][0] == item
    assert response_object(run, [], View.of(run, seals))["output"] == []


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"context_management": [{"type": "other"}]}, "context_management.0.type", "compaction"),
        ({"context_management": [{}]}, "context_management.0.type", ""),
        (
            {"context_management": [{"type": "compaction", "compact_threshold": 0}]},
            "context_management.0.compact_thr",
            "",
        ),
        ({"context_management": {"type": "compaction"}}, "context_management", "list"),
        ({"context_management": ["x"]}, "context_management.0", "object"),
        ({"context_management": [{"type": "compaction"}] * 9}, "context_management", "at most 8"),
        ({"input": [{"type": "compaction", "encrypted_content": "jf1.AAAA"}]}, "input.0", "sealed"),
        ({"input": [{"type": "compaction"}]}, "input.0", ""),
        ({"prompt_cache_options": {"comparison_response_id": 7}}, "prompt_cache_options.comparison_response_id", ""),
        ({"prompt_cache_options": "x"}, "prompt_cache_options", "object"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_place(
    client: FlaskClient, world: World, body: dict[str, Any], param: str, words: str
) -> None:
    reply = client.post("/v1/responses", json={**ASKED, "input": "Hi", **body})
    error = reply.get_json()["error"]
    assert reply.status_code == 400
    assert error["param"].startswith(param)
    assert words in error["message"]
    assert world.engine.requests == []


def test_nothing_to_sum_up_and_a_model_without_words(client: FlaskClient, world: World) -> None:
    for given in ({}, {"input": []}, {"input": [TALK[0]]}):
        reply = client.post("/v1/responses/compact", json={"model": "tiny", **given})
        assert (reply.status_code, reply.get_json()["error"]["param"]) == (400, "input")
    assert client.post("/v1/responses/compact", json={"model": "none", "input": "Hi"}).status_code == 404
    unknown = client.post("/v1/responses/compact", json={"model": "tiny", "previous_response_id": "resp_x"})
    assert unknown.status_code == 404
    world.engine.script = lambda conversation: conversation.send(DONE)
    reply = client.post("/v1/responses/compact", json={"model": "tiny", "input": "Hi"})
    assert (reply.status_code, reply.get_json()["error"]["code"]) == (500, "compaction_failed")


# --- diagnostics ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(app: Flask) -> str:
    """The id of a response that is stored, as a runner would leave it."""
    answers = app.extensions[EXTENSION].answers
    said = MessageDraft(role="user", content=(text_part("Hi"),))
    draft = AnswerDraft(model="tiny", input=(said,), places=("input.0",), instructions="Be kind.")
    run = answers._maker.stored(draft, answers._places.of(draft))
    ended = replace(run, **endings.ended("stop"), prompt_tokens=50, cached_tokens=0, completion_tokens=3)
    answers._runs.close(run.thread_id, run.id, lambda _: ended)
    return str(run.id)


def diagnosed(sdk: openai.OpenAI, name: str, **fields: Any) -> Any:
    asked = {**ASKED, "input": "Hi", "instructions": "Be kind.", **fields}
    answer = strict(sdk.responses.create(**asked, prompt_cache_options={"comparison_response_id": name}))
    assert answer.prompt_cache_options is not None
    assert answer.prompt_cache_options.comparison_response_id == name
    return answer.prompt_cache_diagnostics


def test_a_response_says_why_its_prompt_was_computed_anew(sdk: openai.OpenAI, stored: str) -> None:
    miss = diagnosed(sdk, stored, input="Ho")
    assert (miss.type, miss.reason, miss.first_difference) == ("cache_miss", "input_changed", "input.0")
    assert miss.cache_missed_tokens == 3  # the scripted engine found 4 of 7
    assert diagnosed(sdk, stored, instructions="Be quick.").first_difference == "instructions"
    tool = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
    assert diagnosed(sdk, stored, tools=[tool]).reason == "tools_changed"
    assert diagnosed(sdk, stored, reasoning={"effort": "low"}).reason == "reasoning_effort_changed"
    assert diagnosed(sdk, stored).type == "cache_hit"
    assert diagnosed(sdk, "resp_none").type == "comparison_response_not_found"


def test_nobody_who_does_not_ask_is_told(sdk: openai.OpenAI) -> None:
    answer = sdk.responses.create(**ASKED, input="Hi", prompt_cache_options={"mode": "explicit"})
    assert answer.prompt_cache_diagnostics is None
    assert COMPARISON not in answer.to_dict()
