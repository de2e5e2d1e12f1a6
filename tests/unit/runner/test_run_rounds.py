"""Runs that call functions: they wait for the outputs, for nobody in memory, and go on with them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from janflask.errors import EngineCrashedError, InvalidRequestError, RequestTooLargeError
from janflask.files import ids
from janflask.inference import tries
from janflask.inference.deltas import Event, Finished, RefusalDelta, Started, TextDelta, ToolCallDelta
from janflask.inference.parts import ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from janflask.inference.requests import CallChoice, ChatRequest
from janflask.inference.waiting import Waiter
from janflask.runner import execution, runner
from janflask.services.run_calls import answered, seen
from janflask.services.turns import chat
from janflask.storage.records import CallPlan, Run, RunStatus
from janflask.storage.rounds import FIELD
from janflask.storage.run_json import decode_run
from janflask.storage.run_log import LifecycleEvent, LogEvent, ReasoningEvent, TextEvent, ToolCallEvent, missing
from tests.integration.waiting import wait_for
from tests.unit.runner.run_world import RunWorld, calling, hanging, message, saying, watch

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
GO = {"type": "function", "function": {"name": "go"}}
CALL = ("call_1", "look", '{"at": "sea"}')
TOOLS: dict[str, Any] = {"tools": (LOOK, GO)}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "PAUSE", 0.001)
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.001)


def told(world: RunWorld, run: Run) -> list[LogEvent]:
    """All events of the run, as somebody hears them who comes now."""
    return [event for change in watch(world.runner, run) if isinstance(change, tuple) for event in change[1]]


def shown(events: list[LogEvent]) -> list[str]:
    return [
        event.event + " calls" * event.calls
        if isinstance(event, LifecycleEvent)
        else f"{type(event).__name__} {getattr(event, 'text', getattr(event, 'name', ''))}"
        for event in events
    ]


FIRST_ROUND = [
    *("run.created", "run.queued", "run.in_progress"),
    *("ReasoningEvent Hm", "run.step.created", "run.step.in_progress", "message.created", "message.in_progress"),
    *("TextEvent Let me see.", "message.completed", "run.step.completed"),
    *("run.step.created calls", "run.step.in_progress calls", "ToolCallEvent look", "run.requires_action"),
]
SECOND_ROUND = [
    *("run.step.completed calls", "run.queued", "run.in_progress"),
    *("run.step.created", "run.step.in_progress", "message.created", "message.in_progress"),
    *("TextEvent It", "TextEvent  is blue.", "message.completed", "run.step.completed", "run.completed"),
]


def two_rounds() -> tuple[RunWorld, Run]:
    world = RunWorld(calling(CALL, text="Let me see.", thought="Hm"), saying("It", " is blue."))
    return world, world.run(world.thread("What is the sea like?"), **TOOLS)


def test_a_run_waits_and_goes_on() -> None:
    world, run = two_rounds()
    waiting = world.waiting(run)
    assert waiting.status is RunStatus.REQUIRES_ACTION
    assert [(call.id, call.name, call.arguments) for call in waiting.rounds[0].calls] == [CALL]
    assert shown(told(world, run)) == FIRST_ROUND
    assert not list(world.messages(run)), "what it has said so far is stored when it ends"
    world.submit(run, call_1="blue, salty")
    final = world.done(run)
    assert (final.status, final.prompt_tokens, final.completion_tokens) == (RunStatus.COMPLETED, 17, 6)
    assert shown(told(world, run)) == [*FIRST_ROUND, *SECOND_ROUND]
    first, second = world.messages(run)
    assert (first.text, first.status, second.text) == ("Let me see.", "completed", "It is blue.")
    assert first.extra == {"reasoning_content": "Hm"}
    (kept,) = second.extra[FIELD]
    assert kept["message_id"] == first.id
    assert kept["calls"] == [{"id": "call_1", "name": "look", "arguments": CALL[2], "output": "blue, salty"}]
    json.dumps(second.extra)


def test_the_next_round_is_shown_the_calls_and_what_they_gave() -> None:
    world, run = two_rounds()
    world.waiting(run)
    world.submit(run, call_1="blue, salty")
    world.done(run)
    first, second = world.model.requests
    assert [tool.name for tool in first.tools] == ["look", "go"] == [tool.name for tool in second.tools]
    assert second.messages[: len(first.messages)] == first.messages, "the beginning is what the model has in memory"
    said, result = second.messages[len(first.messages) :]
    assert said.parts == (ReasoningPart("Hm"), TextPart("Let me see."), ToolCallPart(*CALL))
    assert (result.role, result.parts) == ("tool", (ToolResultPart("blue, salty", "call_1"),))


def test_the_next_run_is_shown_them_too_without_the_thoughts() -> None:
    world, run = two_rounds()
    world.waiting(run)
    world.submit(run, call_1="blue, salty")
    world.done(run)
    world.model.scripts = [saying("ok")]
    world.done(world.run(run.thread_id))
    assert [(turn.role, turn.parts) for turn in world.model.requests[-1].messages] == [
        ("user", (TextPart("What is the sea like?"),)),
        ("assistant", (TextPart("Let me see."), ToolCallPart(*CALL))),
        ("tool", (ToolResultPart("blue, salty", "call_1"),)),
        ("assistant", (TextPart("It is blue."),)),
    ]


def test_a_round_never_takes_the_users_words_for_the_models() -> None:
    """As a hand may have written it: what a user says is never laid out as said by the assistant."""
    call = {"id": "call_1", "name": "look", "arguments": "{}", "output": "a cat"}
    asked = message("t", "Hi")
    told = [{"message_id": asked.id, "calls": [call]}]
    reply = replace(message("t", "A cat.", role="assistant"), extra={FIELD: told})
    world = RunWorld()
    turns = chat(world.run(world.thread()), [asked, reply])
    assert [turn.role for turn in turns] == ["user", "assistant", "tool", "assistant"]
    assert turns[1].parts == (ToolCallPart("call_1", "look", "{}"),)


def test_several_calls_and_rounds_and_no_words_before_them() -> None:
    rounds = [calling(CALL, ("call_2", "go", "{}")), calling(("call_1", "go", "{}")), saying("Done.")]
    world = RunWorld(*rounds)
    run = world.run(world.thread("hi"), **TOOLS)
    world.waiting(run)
    world.submit(run, call_2="two", call_1="one")
    again = world.waiting(run)
    other = again.rounds[1].calls[0]
    assert other.id.startswith("call_"), "an id is taken once in a run"
    assert other.id != "call_1"
    world.submit(run, **{other.id: ""})
    final = world.done(run)
    assert final.status is RunStatus.COMPLETED
    assert (final.prompt_tokens, final.completion_tokens, final.cached_tokens) == (27, 9, 4)
    (reply,) = world.messages(run)
    assert [[call["output"] for call in item["calls"]] for item in reply.extra[FIELD]] == [["one", "two"], [""]]
    steps = [event for event in told(world, run) if isinstance(event, ToolCallEvent)]
    assert [(event.round, event.call, event.name) for event in steps] == [(0, 0, "look"), (0, 1, "go"), (1, 0, "go")]


@pytest.mark.parametrize(
    ("plan", "first", "later"),
    [
        (CallPlan(), (CallChoice.AUTO, None, True), (CallChoice.AUTO, None, True)),
        (CallPlan(required=True), (CallChoice.REQUIRED, None, True), (CallChoice.AUTO, None, True)),
        (
            CallPlan(required=True, names=("look",), is_one=True),
            (CallChoice.REQUIRED, frozenset({"look"}), False),
            (CallChoice.AUTO, None, True),
        ),
        (
            CallPlan(required=True, names=("look",)),
            (CallChoice.REQUIRED, frozenset({"look"}), True),
            (CallChoice.AUTO, frozenset({"look"}), True),
        ),
    ],
)
def test_what_has_to_be_called_is_called_once(plan: CallPlan, first: Any, later: Any) -> None:
    world = RunWorld(calling(CALL), saying("ok"))
    run = world.run(world.thread("hi"), calls=plan, **TOOLS)
    world.waiting(run)
    world.submit(run, call_1="x")
    world.done(run)
    asked = [(item.call_choice, item.callable_tools, item.parallel_calls) for item in world.model.requests]
    assert asked == [first, later]


def test_without_tools_none_are_shown() -> None:
    world = RunWorld(saying("ok"))
    world.done(world.run(world.thread("hi"), tool_choice="none", parallel_tool_calls=False, **TOOLS))
    assert world.model.requests[0].tools == ()


def test_the_form_of_the_answer_is_asked_for() -> None:
    world = RunWorld(saying("{}"))
    world.done(world.run(world.thread("hi"), response_format={"type": "json_object"}))
    constraint = world.model.requests[0].constraint
    assert constraint is not None
    assert constraint.schema == '{"type": "object"}'


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"regex": "a+"}, "a+"),
        ({"guided_choice": ["a", "b."]}, r"a|b\."),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, 'start: "a"'),
    ],
)
def test_every_form_survives_the_end_of_a_process(form: dict[str, Any], text: str) -> None:
    """What the next process reads of it is what the first one wrote: what was sent."""
    world = RunWorld(hanging("a"), saying("a"))
    run = world.run(world.thread("hi"), form=form)
    world.saying(run, "a")
    world.runner.close()
    stored = decode_run(msgspec.json.encode(world.repository.runs.get(run.thread_id, run.id)), run.thread_id, run.id)
    assert stored.form == form
    world.new_runner().recover()
    assert world.done(run).status is RunStatus.COMPLETED
    for request in world.model.requests:
        assert request.constraint is not None
        assert (request.constraint.constraint.text, request.constraint.constraint.name) == (text, _place(form))
    assert [request.begun for request in world.model.requests] == ["", "a"]


def _place(form: dict[str, Any]) -> str:
    ((name, value),) = form.items()
    return f"{name}.{next(iter(value))}" if isinstance(value, dict) else name


@pytest.mark.parametrize("form", [{"structured_outputs": "a"}, {"regex": 5}, {"json_schema": {"not": {}}}])
def test_a_form_in_its_file_that_cannot_be_meant_fails_the_run(form: dict[str, Any]) -> None:
    world = RunWorld(saying("a"))
    final = world.done(world.run(world.thread("hi"), form=form))
    assert final.status is RunStatus.FAILED
    assert next(iter(form)) in (final.error_message or "")
    assert world.model.requests == []


def test_an_answer_that_has_not_the_form_says_so() -> None:
    def refused(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        yield [Started(7), TextDelta(0, "{}"), RefusalDelta(0, "it lacks a"), Finished(0, "stop")]
        yield from list(saying()(request, waiter))[-1:]

    world = RunWorld(refused)
    run = world.run(world.thread("hi"), response_format={"type": "json_object"})
    final = world.done(run)
    assert (final.status, final.error_message, final.completion_tokens) == (RunStatus.FAILED, "it lacks a", 0)
    assert [message.text for message in world.messages(run)] == ["{}"]


def test_the_most_tokens_are_those_of_all_rounds() -> None:
    world = RunWorld(calling(CALL), calling(("call_2", "go", "{}")), saying("never"))
    run = world.run(world.thread("hi"), max_completion_tokens=7, **TOOLS)
    world.waiting(run)
    world.submit(run, call_1="x")
    world.waiting(run)
    assert [item.max_tokens for item in world.model.requests] == [7, 3]
    world.submit(run, call_2="x")
    final = world.done(run)
    assert (final.status, final.incomplete_reason) == (RunStatus.INCOMPLETE, "max_completion_tokens")
    (reply,) = world.messages(run)
    assert (reply.text, reply.status, len(reply.extra[FIELD])) == ("", "incomplete", 2), "its calls are kept"


def test_an_engine_that_dies_within_a_call_is_asked_anew_behind_the_words() -> None:
    def dying(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        yield [Started(7), TextDelta(0, "Let me see."), ToolCallDelta(0, 0, "call_9", "look", '{"a')]
        raise EngineCrashedError("gone")

    world = RunWorld(dying, calling(CALL))
    run = world.run(world.thread("hi"), **TOOLS)
    waiting = world.waiting(run)
    assert world.model.requests[1].begun == "Let me see."
    assert [call.id for call in waiting.rounds[0].calls] == ["call_1"]
    assert [event.id for event in told(world, run) if isinstance(event, ToolCallEvent)] == ["call_1"]


def test_calls_that_a_limit_cut_are_not_told() -> None:
    def cut(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        yield [Started(7), ToolCallDelta(0, 0, "call_9", "look", '{"a'), Finished(0, "length")]
        yield from list(saying()(request, waiter))[-1:]

    world = RunWorld(cut)
    final = world.done(world.run(world.thread("hi"), **TOOLS))
    assert (final.status, final.rounds) == (RunStatus.INCOMPLETE, ())


# --- a run that waits -------------------------------------------------------------------------------------------


def test_the_next_process_lets_it_wait_and_go_on() -> None:
    world, run = two_rounds()
    world.waiting(run)
    before = told(world, run)
    world.runner.close()
    world.new_runner().recover()
    assert told(world, run) == before
    world.runner.close()
    world.repository.runs.update(run.thread_id, run.id, lambda run: answered(run, [("call_1", "blue")], 1000))
    world.new_runner().recover()  # nobody said that there were outputs
    assert world.done(run).status is RunStatus.COMPLETED
    assert shown(told(world, run)) == [*FIRST_ROUND, *SECOND_ROUND]


def test_it_can_be_cancelled() -> None:
    world, run = two_rounds()
    world.waiting(run)
    assert world.runner.cancel(run.thread_id, run.id).status is RunStatus.CANCELLING
    final = world.done(run)
    assert final.status is RunStatus.CANCELLED
    assert shown(told(world, run)) == [*FIRST_ROUND, "run.cancelling", "run.step.cancelled calls", "run.cancelled"]
    (kept,) = world.messages(run)
    assert (kept.text, kept.extra) == ("Let me see.", {"reasoning_content": "Hm"}), (
        "calls without outputs are of no use"
    )
    with pytest.raises(InvalidRequestError, match="Cannot cancel run with status 'cancelled'"):
        world.runner.cancel(run.thread_id, run.id)
    with pytest.raises(InvalidRequestError, match="'cancelled' do not accept"):
        world.submit(run, call_1="late")


@pytest.fixture
def _no_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody comes by who looks for runs that were forgotten."""
    monkeypatch.setattr(runner, "RECOVERY_PAUSE", 1e9)


@pytest.mark.usefixtures("_no_recovery")
def test_it_expires_with_nobody_asking() -> None:
    world = RunWorld(calling(CALL))
    run = world.run(world.thread("hi"), lasts=0.6, **TOOLS)
    world.runner.begin(run.thread_id, run.id)
    wait_for(lambda: world.repository.runs.get(run.thread_id, run.id).status is RunStatus.EXPIRED)
    assert shown(told(world, run))[-2:] == ["run.step.expired calls", "run.expired"]
    assert world.repository.runs.open_run(run.thread_id) is None


@pytest.fixture
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks after the time of runs."""
    monkeypatch.setattr(runner, "CLOCK_PAUSE", 1e9)


def overdue() -> tuple[RunWorld, Run]:
    """A run that waits, and has for too long."""
    world = RunWorld(calling(CALL))
    run = world.run(world.thread("hi"), **TOOLS)
    world.waiting(run)
    return world, world.repository.runs.update(
        run.thread_id, run.id, lambda run: replace(run, expires_ms=ids.now_ms() - 1)
    )


@pytest.mark.usefixtures("_no_clock")
def test_whoever_asks_for_one_whose_time_is_over_finds_it_ended() -> None:
    world, run = overdue()
    assert world.runner.begin(run.thread_id, run.id).status is RunStatus.EXPIRED
    assert world.repository.runs.open_run(run.thread_id) is None


@pytest.mark.usefixtures("_no_clock")
def test_one_whose_time_is_over_cannot_be_cancelled() -> None:
    world, run = overdue()
    with pytest.raises(InvalidRequestError, match="Cannot cancel run with status 'expired'"):
        world.runner.cancel(run.thread_id, run.id)
    assert world.repository.runs.get(run.thread_id, run.id).status is RunStatus.REQUIRES_ACTION
    assert world.done(run).status is RunStatus.EXPIRED


def test_outputs_that_come_too_late_are_refused_before_anybody_has_noticed() -> None:
    world = RunWorld(calling(CALL))
    run = world.run(world.thread("hi"), lasts=0.2, **TOOLS)
    waiting = world.waiting(run)
    world.runner.close()
    wait_for(lambda: seen(waiting).status is RunStatus.EXPIRED)
    with pytest.raises(InvalidRequestError, match="'expired' do not accept"):
        answered(waiting, [("call_1", "x")], 1000)
    world.new_runner().recover()
    assert world.done(run).status is RunStatus.EXPIRED


def at_once(world: RunWorld, monkeypatch: pytest.MonkeyPatch, act: Callable[[Run], object]) -> None:
    """``act`` comes in the moment in which a run that waits is on disk, and nobody has heard of it."""
    store, update = world.repository.runs, world.repository.runs.update

    def acting(thread_id: str, run_id: str, change: Callable[[Run], Run]) -> Run:
        run = update(thread_id, run_id, change)
        if run.status is RunStatus.REQUIRES_ACTION:
            monkeypatch.setattr(store, "update", update)
            act(run)
        return run

    monkeypatch.setattr(store, "update", acting)


@pytest.mark.usefixtures("_no_recovery")
def test_outputs_that_come_in_the_moment_in_which_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    world, run = two_rounds()
    at_once(world, monkeypatch, lambda run: world.submit(run, call_1="blue, salty"))
    world.runner.begin(run.thread_id, run.id)
    wait_for(lambda: world.repository.runs.get(run.thread_id, run.id).status is RunStatus.COMPLETED)


@pytest.mark.usefixtures("_no_recovery")
def test_who_cancels_in_the_moment_in_which_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    world, run = two_rounds()
    cancels = lambda run: threading.Thread(target=world.runner.cancel, args=(run.thread_id, run.id)).start()  # noqa: E731
    at_once(world, monkeypatch, cancels)
    world.runner.begin(run.thread_id, run.id)
    wait_for(lambda: world.repository.runs.get(run.thread_id, run.id).status is RunStatus.CANCELLED)


def test_what_was_answered_before_the_end_is_kept() -> None:
    world = RunWorld(calling(CALL), calling(("call_2", "go", "{}")))
    run = world.run(world.thread("hi"), **TOOLS)
    world.waiting(run)
    world.submit(run, call_1="blue")
    world.waiting(run)
    world.runner.cancel(run.thread_id, run.id)
    final = world.done(run)
    assert final.status is RunStatus.CANCELLED
    (reply,) = world.messages(run)
    assert (reply.text, reply.status) == ("", "incomplete")
    assert [call["id"] for item in reply.extra[FIELD] for call in item["calls"]] == ["call_1"]
    assert shown(told(world, run))[-4:] == [
        *("message.incomplete", "run.step.cancelled", "run.step.cancelled calls", "run.cancelled")
    ]


def test_a_run_that_hangs_in_its_second_round_can_be_cancelled() -> None:
    world = RunWorld(calling(CALL), hanging("It is"))
    run = world.run(world.thread("hi"), **TOOLS)
    world.waiting(run)
    world.submit(run, call_1="blue")
    wait_for(lambda: world.repository.runs.get(run.thread_id, run.id).replied_ms is not None)
    world.runner.cancel(run.thread_id, run.id)
    assert world.done(run).status is RunStatus.CANCELLED
    (reply,) = world.messages(run)
    assert (reply.text, len(reply.extra[FIELD])) == ("It is", 1)


def test_a_run_whose_log_is_forgotten_is_told_by_its_file_and_messages() -> None:
    world, run = two_rounds()
    world.waiting(run)
    world.submit(run, call_1="blue, salty")
    world.done(run)
    whole = told(world, run)
    world.model.scripts = [saying("ok")]
    world.done(world.run(run.thread_id))
    pieces = [event for event in whole if not isinstance(event, ReasoningEvent | TextEvent)]
    again = told(world, run)
    assert [event for event in again if not isinstance(event, TextEvent)] == pieces
    assert [event.text for event in again if isinstance(event, TextEvent)] == ["Let me see.", "It is blue."]


def test_every_stage_has_the_same_events_at_the_same_places() -> None:
    world, run = two_rounds()
    world.waiting(run)
    waiting = world.repository.runs.get(run.thread_id, run.id)
    queued = world.submit(run, call_1="blue, salty")
    final = world.done(run)
    whole = [event for event in told(world, run) if not isinstance(event, ReasoningEvent | TextEvent)]
    for stage in (run, waiting, queued, final):
        part = missing(stage, [])
        assert part == whole[: len(part)]


# --- outputs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "param", "told_"),
    [
        ([], "tool_outputs", "Expected tool outputs for call_ids ['call_1', 'call_2']"),
        ([("call_1", "x")], "tool_outputs", "none for call_2"),
        (
            [("call_1", "x"), ("call_3", "y")],
            "tool_outputs.1.tool_call_id",
            "'call_3', which the run does not wait",
        ),
        ([("call_1", "x"), ("call_1", "y")], "tool_outputs.1.tool_call_id", "comes twice"),
    ],
)
def test_outputs_that_are_not_those_of_the_calls(outputs: list[tuple[str, str]], param: str, told_: str) -> None:
    world = RunWorld(calling(CALL, ("call_2", "go", "{}")))
    waiting = world.waiting(world.run(world.thread("hi"), **TOOLS))
    with pytest.raises(InvalidRequestError) as caught:
        answered(waiting, outputs, 1000)
    assert caught.value.param == param
    assert told_ in caught.value.message


def test_outputs_come_once_and_are_not_too_large() -> None:
    world, run = two_rounds()
    waiting = world.waiting(run)
    with pytest.raises(RequestTooLargeError):
        answered(waiting, [("call_1", "x" * 1000)], 1000)
    queued = answered(waiting, [("call_1", "x")], 1000)
    with pytest.raises(InvalidRequestError, match="Runs in status 'queued' do not accept tool outputs"):
        answered(queued, [("call_1", "x")], 1000)
