"""Where the time of a run went, as its file says and the API tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from janflask.api.answers.run_objects import run_object
from janflask.errors import EngineCrashedError
from janflask.inference.deltas import Done, Event
from janflask.inference.requests import ChatRequest
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.generation import Timings
from janflask.runner.live import LiveRun
from janflask.storage.records import RunKind, RunStatus
from tests.unit.runner.run_world import CONTEXT, RunWorld, Script, calling, failing, hanging, saying

FIRST = Timings(cache_n=2, prompt_n=8, prompt_ms=40, predicted_n=4, predicted_ms=100, queue_ms=1.5)
SECOND = Timings(cache_n=10, prompt_n=2, prompt_ms=10, predicted_n=6, predicted_ms=100, queue_ms=0.5)


def taking(timings: Timings, script: Script) -> Script:
    """What ``script`` says, in that time."""

    def timed(request: ChatRequest, waiter: Waiter) -> Iterator[list[Event]]:
        for batch in script(request, waiter):
            yield [Done(event.usage, timings) if isinstance(event, Done) else event for event in batch]

    return timed


def test_a_run_tells_where_its_time_went() -> None:
    world = RunWorld(taking(FIRST, saying("a", "b")))
    run = world.done(world.run(world.thread("hi")))
    first = run.first_token_ms
    assert first is not None
    assert 0 <= first <= (run.completed_ms or 0) - run.created_ms
    assert run_object(run)["timings"] == {
        "queue_ms": 1.5,
        "prompt_ms": 40,
        "prompt_per_second": 200,
        "predicted_ms": 100,
        "predicted_per_second": 40,
        "time_to_first_token_ms": first,
        "cached_tokens": 2,
        "context_tokens": CONTEXT,
    }


def test_rounds_add_up_and_the_first_token_is_the_first_rounds() -> None:
    world = RunWorld(taking(FIRST, calling(("call_1", "look", "{}"))), taking(SECOND, saying("blue")))
    waiting = world.waiting(world.run(world.thread("hi"), tools=({"type": "function", "function": {"name": "look"}},)))
    assert waiting.status is RunStatus.REQUIRES_ACTION
    assert run_object(waiting)["timings"]["predicted_per_second"] == 40
    assert run_object(waiting)["timings"]["cached_tokens"] == 1
    world.submit(waiting, call_1="blue")
    run = world.done(waiting)
    told = run_object(run)["timings"]
    assert (told["queue_ms"], told["prompt_ms"], told["predicted_ms"]) == (2, 50, 200)
    assert (told["prompt_per_second"], told["predicted_per_second"]) == (200, 50)
    assert told["cached_tokens"] == run_object(run)["usage"]["prompt_token_details"]["cached_tokens"] == 3
    assert told["time_to_first_token_ms"] == waiting.first_token_ms is not None


def test_nothing_is_told_before_a_round_has_ended_nor_of_runs_of_before() -> None:
    world = RunWorld(hanging("x"))
    run = world.run(world.thread("hi"))
    assert run_object(run)["timings"] is None
    world.saying(run, "x")
    assert run_object(world.repository.runs.get(run.thread_id, run.id))["timings"] is None
    world.runner.cancel(run.thread_id, run.id)
    cancelled = world.done(run)
    assert run_object(cancelled)["timings"] is None
    assert cancelled.first_token_ms is not None
    for odd in ({}, {"prompt_ms": "soon"}):
        assert run_object(replace(cancelled, timings=odd))["timings"] is None


def test_an_answer_that_an_engine_died_under_has_the_time_of_its_last_piece() -> None:
    world = RunWorld(failing(EngineCrashedError("it died"), "a"), taking(FIRST, saying("b")))
    run = world.done(world.run(world.thread("hi")))
    assert run_object(run)["timings"]["predicted_ms"] == 100
    assert run.first_token_ms is not None


def test_a_first_token_before_a_crash_of_the_runner_is_not_made_up() -> None:
    world = RunWorld(hanging("x"))
    run = world.run(world.thread("hi"))
    world.saying(run, "x")
    world.runner.close()
    world.model.scripts = [taking(FIRST, saying("y"))]
    world.new_runner()
    ended = world.done(run)
    assert ended.status is RunStatus.COMPLETED
    assert run_object(ended)["timings"]["time_to_first_token_ms"] is None


def test_nothing_is_written_between_a_first_token_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing a run down takes the time of a disk, which no first token should wait for."""
    updates: list[int] = []
    update = LiveRun.update
    monkeypatch.setattr(LiveRun, "update", lambda live, change: updates.append(len(live.text)) or update(live, change))
    world = RunWorld(saying("a", "b"))
    world.done(world.run(world.thread("hi")))
    assert len(updates) == 2  # it begins, and its answer does


def test_an_answer_by_itself_keeps_its_own() -> None:
    world = RunWorld(taking(FIRST, saying("a")))
    run = world.done(world.run(world.thread("hi"), kind=RunKind.RESPONSE))
    assert run.timings["predicted_ms"] == 100
