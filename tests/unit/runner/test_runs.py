"""Runs from queued to final, with a model that does as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from janflask.errors import (
    ContextLengthExceededError,
    EngineCrashedError,
    EngineError,
    InvalidRequestError,
    QueueFullError,
    TemplateGivenUpError,
)
from janflask.inference import tries
from janflask.inference.backend import Counted
from janflask.inference.deltas import Event, ReasoningDelta, TextDelta, ToolCallDelta
from janflask.inference.requests import ChatRequest, TemplateRequest
from janflask.inference.tries import ATTEMPTS, Tries
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.engine import Started
from janflask.runner import execution
from janflask.runner.titles import title_of
from janflask.services.prompts import _TOO_LONG
from janflask.storage.records import Run, RunStatus, Thread
from janflask.storage.run_log import LifecycleEvent, ReasoningEvent, TextEvent, texts_of
from tests.integration.waiting import wait_for
from tests.unit.runner.run_world import CONTEXT, RunWorld, failing, hanging, message, saying, watch


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "PAUSE", 0.001)
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.001)


def test_a_run_that_completes() -> None:
    world = RunWorld(saying("Hello", " you"))
    run = world.run(world.thread("Say hello\nplease"), instructions="Be kind.", temperature=0.5)
    final = world.done(run)
    assert (final.status, final.prompt_tokens, final.completion_tokens) == (RunStatus.COMPLETED, 7, 2)
    assert None not in (final.started_ms, final.replied_ms, final.completed_ms)
    (reply,) = world.messages(run)
    assert (reply.id, reply.text, reply.status) == (run.message_id, "Hello you", "completed")
    (request,) = world.model.requests
    assert [item.text for item in request.messages] == ["Be kind.", "Say hello\nplease"]
    assert request.sampling == {"temperature": 0.5}
    assert request.conversation == run.thread_id
    assert world.repository.threads.get(run.thread_id).title == "Say hello"


def test_who_watches_hears_the_run_then_its_words_then_its_end() -> None:
    listened = threading.Event()

    def script(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        assert listened.wait(20)
        yield from saying("a", "b")(request, waiter)

    world = RunWorld(script)
    run = world.run(world.thread("hi"))
    changes = watch(world.runner, run)
    heard = [next(changes)]
    listened.set()
    heard += changes
    assert isinstance(heard[0], Run)
    final = [change for change in heard if isinstance(change, Run)][-1]
    assert final.status is RunStatus.COMPLETED
    told = [change for change in heard if isinstance(change, tuple)]
    events = [event for _, part in told for event in part]
    assert [first for first, _ in told] == [1 + sum(len(part) for _, part in told[:at]) for at in range(len(told))]
    assert texts_of(events) == ["a", "b"]
    assert [event.event for event in events if isinstance(event, LifecycleEvent)] == [
        *("run.created", "run.queued", "run.in_progress", "run.step.created", "run.step.in_progress"),
        *("message.created", "message.in_progress", "message.completed", "run.step.completed", "run.completed"),
    ]
    late = list(watch(world.runner, run))
    assert late == [final, (1, events)]
    assert events == world.repository.runs.events(run.thread_id, run.id), "what was told is what is in the log"


def test_what_a_model_thinks_is_heard_logged_and_kept_beside_the_reply() -> None:
    def thinking(request: ChatRequest, waiter: Waiter) -> Iterator[list[Any]]:
        yield [Started(7), ReasoningDelta(0, "Hm"), ReasoningDelta(0, ".")]
        yield [TextDelta(0, "Yes"), TextDelta(0, ""), ToolCallDelta(0, 0, "call_1", "look", "{")]
        yield from list(saying()(request, waiter))[2:]

    world = RunWorld(thinking)
    run = world.run(world.thread("hi"))
    assert world.done(run).status is RunStatus.COMPLETED
    (reply,) = world.messages(run)
    assert (reply.text, reply.extra) == ("Yes", {"reasoning_content": "Hm."})
    ((_, events),) = [change for change in watch(world.runner, run) if isinstance(change, tuple)]
    said = [event for event in events if not isinstance(event, LifecycleEvent)]
    assert said == [ReasoningEvent("Hm"), ReasoningEvent("."), TextEvent("Yes")], "no call that is not whole"
    assert events[7:10] == said


@pytest.mark.parametrize("words", ["", "Yes and"])
def test_a_run_goes_on_behind_what_it_had_thought_and_said(words: str) -> None:
    """A model that broke off while it thought goes on thinking, and does not begin anew."""

    def dying(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        yield [Started(7), ReasoningDelta(0, "Hm, so"), TextDelta(0, words)]
        raise EngineCrashedError("gone")

    world = RunWorld(dying, saying(" no"))
    run = world.run(world.thread("hi"), max_completion_tokens=10, parameters={"reasoning_budget": 7})
    final = world.done(run)
    again = world.model.requests[1]
    assert (again.begun_reasoning, again.begun, again.laid_out) == ("Hm, so", words, None)
    assert again.thought_tokens == 7, "whoever answers counts the thoughts that were begun, which are among these"
    said = 2 + len(words.split())
    assert again.max_tokens == 10 - said
    assert final.completion_tokens == 1 + said
    (reply,) = world.messages(run)
    assert (reply.text, reply.extra) == (words + " no", {"reasoning_content": "Hm, so"})
    again_from = world.model.calls.index("chat") + 1
    assert world.model.calls[again_from] == "info", "it is started with the run's settings, if it must be"


def test_what_comes_together_with_the_end_is_not_lost() -> None:
    def at_once(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        _, *batches = saying("all", " at once")(request, waiter)
        yield [event for batch in batches for event in batch]

    world = RunWorld(at_once)
    run = world.run(world.thread("hi"))
    assert world.done(run).status is RunStatus.COMPLETED
    assert world.messages(run)[0].text == "all at once"


def test_a_reply_without_thoughts_has_no_field_for_them() -> None:
    world = RunWorld(saying("ok"))
    run = world.run(world.thread("hi"))
    world.done(run)
    assert world.messages(run)[0].extra == {}


def test_a_run_whose_log_is_forgotten_is_told_by_its_message() -> None:
    world = RunWorld(saying("Hello", " you"))
    first = world.run(world.thread("hi"))
    world.done(first)
    log = world.repository.runs.events(first.thread_id, first.id)
    world.done(world.run(first.thread_id))
    ((_, events),) = [change for change in watch(world.runner, first) if isinstance(change, tuple)]
    assert events == [*log[:7], TextEvent("Hello you"), *log[9:]]
    world.repository.threads.delete_message(first.thread_id, first.message_id)
    ((_, events),) = [change for change in watch(world.runner, first) if isinstance(change, tuple)]
    assert events == [*log[:7], *log[9:]]


def test_a_next_process_finds_a_log_that_lacks_lines() -> None:
    """A crash came between the run's file and its log; what was heard before has the same number afterwards."""
    world = RunWorld(hanging("one"), saying(" two"))
    run = world.run(world.thread("hi"))
    world.saying(run, "one")
    world.runner.close()
    lines = world.repository.runs.events(run.thread_id, run.id)
    assert [type(event) for event in lines[7:]] == [TextEvent]
    world.repository.runs._logs[run.thread_id, run.id] = list(lines[:4])  # type: ignore[attr-defined]
    world.new_runner().recover()
    world.done(run)
    events = world.repository.runs.events(run.thread_id, run.id)
    assert events[:7] == lines[:7]
    assert texts_of(events) == [" two"]
    assert len(events) == 7 + 1 + 3


def test_the_token_limit_makes_it_incomplete() -> None:
    world = RunWorld(saying("a", reason="length"))
    run = world.run(world.thread("hi"), max_completion_tokens=1)
    final = world.done(run)
    assert (final.status, final.incomplete_reason) == (RunStatus.INCOMPLETE, "max_completion_tokens")
    assert world.model.requests[0].max_tokens == 1
    assert world.messages(run)[0].status == "incomplete"


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [({}, None), ({"reasoning_budget": 5}, 5), ({"chat_template_kwargs": {"thinking_budget": 7}}, 7)],
)
def test_how_long_its_model_may_think(parameters: dict[str, Any], limit: int | None) -> None:
    world = RunWorld(saying("Yes"))
    world.done(world.run(world.thread("hi"), parameters=parameters))
    assert world.model.requests[0].thought_tokens == limit


def test_a_failure_keeps_what_was_said_and_tells_why() -> None:
    world = RunWorld(failing(EngineError("out of luck"), "half"))
    run = world.run(world.thread("hi"))
    final = world.done(run)
    assert (final.status, final.error_message) == (RunStatus.FAILED, "out of luck")
    assert [(reply.text, reply.status) for reply in world.messages(run)] == [("half", "incomplete")]


def test_a_failure_before_the_first_word_stores_no_message() -> None:
    world = RunWorld(failing(EngineError("out of luck")))
    run = world.run(world.thread("hi"))
    assert world.done(run).status is RunStatus.FAILED
    assert world.messages(run) == []


def test_it_goes_on_where_an_engine_died() -> None:
    world = RunWorld(failing(EngineCrashedError("gone"), "one two"), saying(" three"))
    run = world.run(world.thread("hi"), max_completion_tokens=10)
    final = world.done(run)
    assert final.status is RunStatus.COMPLETED
    assert world.messages(run)[0].text == "one two three"
    assert (world.model.requests[1].begun, world.model.requests[1].max_tokens) == ("one two", 8)
    assert (final.prompt_tokens, final.completion_tokens) == (5, 3)


def test_an_engine_that_keeps_dying_fails_the_run() -> None:
    world = RunWorld(failing(EngineCrashedError("gone")))
    assert world.done(world.run(world.thread("hi"))).status is RunStatus.FAILED
    assert len(world.model.requests) == ATTEMPTS


def test_a_full_queue_is_waited_for() -> None:
    full = failing(QueueFullError("full"))
    world = RunWorld(*[full] * 8, saying("now"))
    assert world.done(world.run(world.thread("hi"))).status is RunStatus.COMPLETED


def test_cancelling_wakes_a_model_that_says_nothing() -> None:
    world = RunWorld(hanging("so far"))
    run = world.run(world.thread("hi"))
    world.saying(run, "so far")
    assert world.runner.cancel(run.thread_id, run.id).status is RunStatus.CANCELLING
    final = world.done(run)
    assert final.status is RunStatus.CANCELLED
    assert final.cancelled_ms is not None
    assert world.messages(run)[0].text == "so far"
    with pytest.raises(InvalidRequestError, match="cancelled"):
        world.runner.cancel(run.thread_id, run.id)


def test_a_queued_run_can_be_cancelled_and_expires_like_any() -> None:
    world = RunWorld(hanging("x"), most=1)
    first, second = world.run(world.thread("hi")), world.run(world.thread("hi"))
    third = world.run(world.thread("hi"), lasts=0.1)
    world.saying(first, "x")
    world.runner.begin(second.thread_id, second.id)
    world.runner.cancel(second.thread_id, second.id)
    assert world.done(second).status is RunStatus.CANCELLED
    assert world.done(third).status is RunStatus.EXPIRED
    assert world.messages(second) == []
    world.runner.close()


def test_a_run_that_takes_too_long_expires_with_what_it_said() -> None:
    world = RunWorld(hanging("x"))
    run = world.run(world.thread("hi"), lasts=0.1)
    assert world.done(run).status is RunStatus.EXPIRED
    assert [reply.incomplete_details for reply in world.messages(run)] in ([], [{"reason": "run_expired"}])


def test_the_next_process_goes_on() -> None:
    world = RunWorld(hanging("one"), saying(" two"))
    run = world.run(world.thread("hi"))
    world.saying(run, "one")
    world.runner.close()
    stopped = world.repository.runs.get(run.thread_id, run.id)
    assert (stopped.status, world.messages(run)) == (RunStatus.IN_PROGRESS, [])
    world.new_runner().recover()
    assert world.done(run).status is RunStatus.COMPLETED
    assert [reply.text for reply in world.messages(run)] == ["one two"]


def test_a_run_that_nobody_said_to_begin_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janflask.runner.runner.RECOVERY_PAUSE", 0.0)
    monkeypatch.setattr("janflask.runner.runner.CLOCK_PAUSE", 0.01)
    world = RunWorld(saying("x"))
    run = world.run(world.thread("hi"))
    deadline = time.monotonic() + 20
    while world.repository.runs.get(run.thread_id, run.id).status is not RunStatus.COMPLETED:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_message_that_is_stored_is_not_stored_again() -> None:
    world = RunWorld(saying("never asked"))
    run = world.run(world.thread("hi"))
    done = message(run.thread_id, "whole", "assistant")
    world.repository.threads.append(run.thread_id, [replace(done, id=run.message_id)])
    assert world.done(run).status is RunStatus.COMPLETED
    assert world.model.requests == []
    assert list(world.repository.threads.message_ids(run.thread_id)).count(run.message_id) == 1


def test_what_does_not_fit_is_left_out_and_named() -> None:
    world = RunWorld(saying("ok"))
    thread_id = world.thread("old " * 40, "new " * 20)
    old = world.repository.threads.message_ids(thread_id)[0]
    final = world.done(world.run(thread_id))
    assert final.left_out == (old,)
    assert [item.text for item in world.model.requests[0].messages] == ["new " * 20]


@pytest.mark.parametrize(("at_most", "shown"), [(2, ["two", "three"]), (0, None)])
def test_what_a_template_cannot_lay_out_in_time_is_left_out(
    at_most: int, shown: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 4's work grows with the square of the messages: with thousands it is given up."""
    world = RunWorld(saying("ok"))
    plain = world.model.count

    def slow(request: TemplateRequest, waiter: Waiter, tries: Tries) -> Counted:
        if len(request.messages) > at_most:
            raise TemplateGivenUpError("the template was given up", param="messages")
        return plain(request, waiter, tries)

    monkeypatch.setattr(world.model, "count", slow)
    thread_id = world.thread("one", "two", "three")
    final = world.done(world.run(thread_id))
    if shown is None:
        assert (final.status, final.error_message) == (RunStatus.FAILED, "the template was given up")
        return
    assert final.left_out == world.repository.threads.message_ids(thread_id)[:1]
    assert [item.text for item in world.model.requests[0].messages] == shown


def test_an_answer_is_never_asked_to_be_longer_than_what_the_context_leaves() -> None:
    """Some servers refuse such a request, where an engine of ours would answer until its context is full."""
    world = RunWorld(saying("ok"))
    world.done(world.run(world.thread("one two three"), max_completion_tokens=CONTEXT - 1))
    assert world.model.requests[0].max_tokens == CONTEXT - 3


def test_a_newest_turn_that_leaves_little_room_is_laid_out_once() -> None:
    world = RunWorld(saying("ok"))
    final = world.done(world.run(world.thread("new " * (CONTEXT - 4))))
    assert final.status is RunStatus.COMPLETED
    assert world.model.calls == ["info", "count", "chat"]
    assert world.model.requests[0].laid_out is not None


def test_a_newest_turn_over_the_runs_own_limit() -> None:
    world = RunWorld(saying("ok"))
    final = world.done(world.run(world.thread("new " * 20), max_prompt_tokens=5))
    assert (final.status, final.incomplete_reason) == (RunStatus.INCOMPLETE, "max_prompt_tokens")


@pytest.mark.parametrize("words", [CONTEXT, CONTEXT + 20])
def test_a_newest_turn_over_the_context(words: int) -> None:
    world = RunWorld(saying("ok"))
    final = world.done(world.run(world.thread("old", "new " * words)))
    assert (final.status, final.error_code) == (RunStatus.FAILED, "invalid_prompt")
    assert final.error_message == str(ContextLengthExceededError.of(words, CONTEXT, _TOO_LONG))
    assert world.model.requests == []


def test_a_newest_turn_with_more_text_than_is_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janflask.services.prompts.MAX_TEXT", 40)
    world = RunWorld(saying("ok"))
    final = world.done(world.run(world.thread("new " * 150)))
    assert final.error_code == "invalid_prompt"
    assert final.error_message is not None
    assert final.error_message.startswith(f"prompt is too long: 150 tokens > {CONTEXT} maximum")


def test_a_newest_turn_that_leaves_little_room_is_answered() -> None:
    world = RunWorld(saying("ok"))
    assert world.done(world.run(world.thread("old", "new " * 60))).status is RunStatus.COMPLETED


def test_a_thread_that_is_deleted_takes_its_run_along() -> None:
    world = RunWorld(hanging("x"))
    run = world.run(world.thread("hi"))
    world.saying(run, "x")
    world.repository.threads.delete(run.thread_id)
    world.runner.close()
    world.new_runner().recover()
    assert list(world.repository.runs.all_open()) == []


def test_a_thread_that_is_deleted_is_not_answered_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janflask.runner.runner.GONE_PAUSE", 0.0)
    monkeypatch.setattr("janflask.runner.runner.CLOCK_PAUSE", 0.01)
    world = RunWorld(hanging("x"))
    run = world.run(world.thread("hi"))
    watching = watch(world.runner, run)
    assert isinstance(next(watching), Run)
    world.saying(run, "x")
    world.repository.threads.delete(run.thread_id)
    heard = [change for change in watching if isinstance(change, Run)]  # ends though the model would hang for ever
    assert not any(change.status.is_final for change in heard)
    assert list(world.repository.runs.all_open()) == []


def test_a_store_that_fails_for_a_moment_does_not_stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janflask.runner.runner.GONE_PAUSE", 0.0)
    monkeypatch.setattr("janflask.runner.runner.CLOCK_PAUSE", 0.01)
    world = RunWorld(hanging("x"))
    get = world.repository.threads.get
    failed = threading.Event()

    def fails_once(thread_id: str) -> Thread:
        if not failed.is_set():
            failed.set()
            raise OSError("the disk is away")
        return get(thread_id)

    run = world.run(world.thread("hi"))
    world.saying(run, "x")
    monkeypatch.setattr(world.repository.threads, "get", fails_once)
    assert failed.wait(10)
    world.repository.threads.delete(run.thread_id)
    wait_for(lambda: not list(world.repository.runs.all_open()))


def test_a_title_is_cut_after_a_word_and_never_replaced() -> None:
    assert title_of([message("t", "word " * 30)]) == ("word " * 12).strip()
    assert title_of([message("t", "x" * 100)]) == "x" * 60
    world = RunWorld(saying("ok"))
    run = world.run(world.thread("hi", title="mine"))
    world.done(run)
    assert world.repository.threads.get(run.thread_id).title == "mine"
