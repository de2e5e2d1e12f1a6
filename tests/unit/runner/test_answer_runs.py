"""Runs that are answers by themselves: what they bring along, how they end, and what their logs and messages say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from janflask.errors import EngineCrashedError, EngineError
from janflask.files import ids
from janflask.inference import tries
from janflask.inference.deltas import Done, Event, Finished, ReasoningDelta, RefusalDelta, Started, TextDelta
from janflask.inference.requests import ChatRequest
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.generation import Usage
from janflask.parsing.deltas import TokenLogprob, TopLogprob
from janflask.runner import execution
from janflask.services.run_told import told_events, told_reply
from janflask.storage.answers import MADE_FOR
from janflask.storage.items import CALLS, REASONING, kept_calls
from janflask.storage.jan import encode_message
from janflask.storage.records import Message, Run, RunKind, RunStatus
from janflask.storage.run_log import LifecycleEvent, RefusalEvent, TextEvent, ToolCallEvent
from tests.fakes.crossing import crossing
from tests.unit.runner.run_world import (
    CONTEXT,
    TIMINGS,
    RunWorld,
    Script,
    calling,
    failing,
    hanging,
    message,
    saying,
)

TOKENS = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=0)
LOOK = {"type": "function", "function": {"name": "look"}}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "PAUSE", 0.001)
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.001)


def playing(*events: Event, usage: Usage | None = None) -> Script:
    """A model that does this, one after another."""

    def script(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        for event in (Started(7), *events, Done(usage or TOKENS, TIMINGS)):
            yield [event]

    return script


def raw(added: Message) -> dict[str, Any]:
    return dict(msgspec.json.decode(encode_message(added)))


def answer(world: RunWorld, *texts: str, thread_id: str = "", **fields: Any) -> Run:
    """A run that brings ``texts`` along, not begun."""
    thread_id = thread_id or world.thread("hi")
    brought = tuple(raw(message(thread_id, text)) for text in texts)
    return world.run(thread_id, kind=RunKind.RESPONSE, input=brought, **{"truncates": False, **fields})


def test_what_it_brings_is_in_the_thread_before_it_is_answered() -> None:
    world = RunWorld(saying("Hel", "lo"))
    run = world.done(answer(world, "and?", "so?"))
    messages = list(world.repository.threads.all_messages(run.thread_id))
    assert [found.text for found in messages] == ["hi", "and?", "so?", "Hello"]
    assert run.input == ()
    assert list(run.input_ids) == [found.id for found in messages[1:3]]
    assert [turn.text for turn in world.model.requests[0].messages] == ["hi", "and?", "so?"]


def test_what_is_there_already_is_not_added_again() -> None:
    world = RunWorld(saying("Hello"))
    run = answer(world, "and?", "so?")
    first = replace(message(run.thread_id, "and?"), id=run.input[0]["id"])
    world.repository.threads.append(run.thread_id, [first])  # and then the process ended
    world.done(run)
    assert [found.text for found in world.repository.threads.all_messages(run.thread_id)] == [
        *("hi", "and?", "so?", "Hello")
    ]


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("tools", [(), (LOOK,)])
def test_one_that_breaks_off_without_a_word_leaves_its_thread_as_it_was(
    started: bool, tools: tuple[dict[str, Any], ...]
) -> None:
    def breaking(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        yield [Started(7)] * started
        raise crossing(EngineError("out of luck"))

    world = RunWorld(breaking)
    run = answer(world, "and?", "so?", tools=tools)
    before = run.input
    failed = world.done(run)
    assert (failed.status, failed.input, failed.input_ids) == (RunStatus.FAILED, before, ())
    assert [found.text for found in world.repository.threads.all_messages(run.thread_id)] == ["hi"]
    assert told_reply(world.repository, failed) == []


def test_a_thread_that_was_made_for_it_keeps_what_came_with_it() -> None:
    world = RunWorld(failing(EngineError("out of luck")))
    run = answer(world, "and?")
    made = {MADE_FOR: run.id}
    world.repository.threads.update(run.thread_id, lambda thread: replace(thread, extra=made))
    failed = world.done(run)
    assert [found.text for found in world.repository.threads.all_messages(run.thread_id)] == ["hi", "and?"]
    assert (failed.input, len(failed.input_ids)) == ((), 1)


def test_one_that_is_cancelled_before_it_begins_leaves_its_thread_as_it_was() -> None:
    world = RunWorld(saying("Hello"))
    run = answer(world, "and?")
    world.repository.runs.update(run.thread_id, run.id, lambda run: replace(run, status=RunStatus.CANCELLING))
    assert world.done(run).status is RunStatus.CANCELLED
    assert [found.text for found in world.repository.threads.all_messages(run.thread_id)] == ["hi"]
    assert world.model.requests == []


def test_calls_end_it_and_stand_with_its_message() -> None:
    world = RunWorld(calling(("call_1", "look", '{"at": 1}'), ("call_2", "look", "{}"), text="Well", thought="Hm"))
    run = world.done(answer(world, "and?", tools=(LOOK,)))
    assert (run.status, run.rounds, run.waiting) == (RunStatus.COMPLETED, (), None)
    assert [(call.id, call.name, call.arguments) for call in run.wanted] == [
        ("call_1", "look", '{"at": 1}'),
        ("call_2", "look", "{}"),
    ]
    (reply,) = world.messages(run)
    assert (reply.text, reply.extra) == ("Well", {REASONING: "Hm", CALLS: kept_calls(run.wanted)})
    events = told_events(world.repository, run)
    assert events == list(world.repository.runs.events(run.thread_id, run.id))
    names = [event.event if isinstance(event, LifecycleEvent) else type(event).__name__ for event in events]
    assert names[-6:] == [
        *("TextEvent", "ToolCallEvent", "ToolCallEvent"),
        *("message.completed", "run.step.completed", "run.completed"),
    ]
    assert events[-5] == ToolCallEvent(0, "call_1", "look", '{"at": 1}')


def test_calls_or_thoughts_alone_are_a_message_without_content() -> None:
    world = RunWorld(calling(("call_1", "look", "{}")), playing(ReasoningDelta(0, "Hm"), Finished(0, "length")))
    called, thought = world.done(answer(world, tools=(LOOK,))), world.done(answer(world, tools=(LOOK,)))
    assert [found.content for found in (*world.messages(called), *world.messages(thought))] == [(), ()]
    assert (thought.status, thought.incomplete_reason) == (RunStatus.INCOMPLETE, "max_completion_tokens")
    assert world.messages(thought)[0].extra == {REASONING: "Hm"}


def test_a_call_that_is_cut_is_none() -> None:
    cut = [event for batch in calling(("call_1", "look", "{"))(None, None) for event in batch]  # type: ignore[arg-type]
    pieces = [event for event in cut if not isinstance(event, Started | Finished | Done)]
    world = RunWorld(playing(TextDelta(0, "Well"), *pieces, Finished(0, "length")))
    run = world.done(answer(world, tools=(LOOK,)))
    assert (run.status, run.wanted) == (RunStatus.INCOMPLETE, ())
    assert world.messages(run)[0].extra == {}


def test_a_refusal_is_an_answer() -> None:
    world = RunWorld(playing(TextDelta(0, "Once"), Finished(0, "stop"), RefusalDelta(0, "It is no JSON")))
    run = world.done(answer(world))
    assert (run.status, run.refusal, run.error_code) == (RunStatus.COMPLETED, "It is no JSON", None)
    assert [part["type"] for part in world.messages(run)[0].content] == ["text", "refusal"]
    assert RefusalEvent("It is no JSON") in told_events(world.repository, run)


def test_a_run_of_the_assistants_api_still_fails_with_it() -> None:
    world = RunWorld(playing(Finished(0, "stop"), RefusalDelta(0, "It is no JSON")))
    run = world.done(world.run(world.thread("hi")))
    assert (run.status, run.error_message) == (RunStatus.FAILED, "It is no JSON")


def test_a_history_that_does_not_fit_fails_it_with_the_words_that_clients_know() -> None:
    world = RunWorld(saying("Hello"))
    run = world.done(answer(world, "word " * CONTEXT))
    assert (run.status, run.error_code) == (RunStatus.FAILED, "context_length_exceeded")
    assert run.error_message is not None
    assert run.error_message.startswith(f"prompt is too long: {CONTEXT + 1} tokens > {CONTEXT} maximum")
    assert run.left_out == ()
    assert world.model.requests == []
    assert len(list(world.repository.threads.all_messages(run.thread_id))) == 1


def test_all_that_leaves_room_for_a_token_is_shown() -> None:
    world = RunWorld(saying("Hello"))
    run = world.done(answer(world, "word " * (CONTEXT - 2)))
    assert (run.status, run.left_out) == (RunStatus.COMPLETED, ())
    assert len(world.model.requests[0].messages) == 2
    assert world.model.calls.count("count") == 1


def test_the_oldest_turns_are_left_out_where_that_is_asked_for() -> None:
    world = RunWorld(saying("Hello"))
    thread_id = world.thread("word " * CONTEXT, "hi")
    run = world.done(answer(world, "and?", thread_id=thread_id, truncates=True))
    assert (run.status, len(run.left_out)) == (RunStatus.COMPLETED, 1)


def test_log_probabilities_are_in_its_log() -> None:
    token = TokenLogprob("Hi", b"Hi", -0.5, 7, (TopLogprob("Ho", b"Ho", float("-inf"), 8),))
    world = RunWorld(playing(TextDelta(0, "Hi", (token,)), TextDelta(0, "", (token,)), Finished(0, "stop")))
    run = world.done(answer(world, top_logprobs=1))
    assert world.model.requests[0].sampling["top_logprobs"] == 1
    told = [event for event in told_events(world.repository, run) if isinstance(event, TextEvent)]
    assert [event.text for event in told] == ["Hi", ""]
    top = {"token": "Ho", "logprob": -9999.0, "bytes": [72, 111]}
    for event in told:
        assert event.logprobs == ({"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [top]},)


def test_thoughts_are_counted_also_those_before_an_engine_died() -> None:
    def dying(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        yield [Started(7), ReasoningDelta(0, "one two three")]
        raise EngineCrashedError("gone", retry_after=0)

    done = Usage(prompt_tokens=10, completion_tokens=4, cached_tokens=0, reasoning_tokens=2)
    world = RunWorld(
        dying, playing(ReasoningDelta(0, " four five"), TextDelta(0, "Hi"), Finished(0, "stop"), usage=done)
    )
    run = world.done(answer(world))
    assert world.model.requests[1].begun_reasoning == "one two three"
    assert (run.completion_tokens, run.reasoning_tokens, run.prompt_tokens) == (7, 5, 7)


def test_how_it_ended_is_found_in_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends between its message and the last word on it."""
    world = RunWorld(calling(("call_1", "look", "{}"), thought="Hm"))
    run = answer(world, tools=(LOOK,))
    final = world.done(run)
    world.repository.runs.update(
        run.thread_id, run.id, lambda run: replace(run, status=RunStatus.IN_PROGRESS, wanted=(), completed_ms=None)
    )
    world.new_runner()
    again = world.done(run)
    assert (again.status, again.wanted) == (RunStatus.COMPLETED, final.wanted)
    assert len(world.messages(run)) == 1


def test_how_far_it_has_come_can_be_seen() -> None:
    world = RunWorld(hanging("Hel", "lo"))
    run = answer(world)
    assert told_reply(world.repository, run) == []
    world.saying(run, "Hello")
    now = world.repository.runs.get(run.thread_id, run.id)
    (reply,) = told_reply(world.repository, now)
    assert (reply.id, reply.text, reply.status) == (run.message_id, "Hello", "in_progress")
    world.runner.cancel(run.thread_id, run.id)
    final = world.done(run)
    assert [found.text for found in told_reply(world.repository, final)] == ["Hello"]


def test_the_state_of_its_conversation_is_the_threads() -> None:
    world = RunWorld(saying("Hello"))
    run = world.done(answer(world))
    request = world.model.requests[0]
    assert (request.conversation, request.keep_state) == (run.thread_id, True)
    assert ids.thread_of(run.id) == run.thread_id
