"""Stored answers whose prompt grew too long: what is older is summed up first, once, and counts from then on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from janflask.errors import EngineCrashedError
from janflask.inference.backends import Backends
from janflask.services.compaction import Compactions
from janflask.services.seals import Seals
from janflask.storage.answers import AnswerDraft
from janflask.storage.base import Page
from janflask.storage.items import ItemKind, SealedDraft, is_summary, items_of
from janflask.storage.records import Run, RunStatus
from janflask.storage.run_log import COMPACTED, LifecycleEvent
from tests.unit.runner import run_world
from tests.unit.runner.run_world import Script, failing, hanging, saying
from tests.unit.services.answer_world import AnswerWorld

LONG = " ".join(["word"] * 100)


class World(AnswerWorld):
    """With a context of 800 tokens; a token is a word."""

    def __init__(self, folder: Path, *scripts: Script, **more: Any) -> None:
        super().__init__(*scripts, **more)
        self.runner.close()
        self.compactions = Compactions(cast(Backends, self.model), Seals(folder))
        self.items._compactions = self.compactions
        self.new_runner()

    def long(self) -> Run:
        """An answer behind a long one."""
        first = self.answer(LONG, "more " + LONG)
        return self.answer("short", previous=first.id, compact_threshold=100)


@pytest.fixture
def scripts() -> list[Script]:
    return [saying("first"), saying("the ", "gist"), saying("second"), saying("third")]


@pytest.fixture
def world(tmp_path: Path, scripts: list[Script], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(run_world, "CONTEXT", 800)
    world = World(tmp_path, *scripts)
    try:
        yield world
    finally:
        world.runner.close()


def test_it_stands_first_in_the_output_and_for_what_is_older(world: World) -> None:
    run = world.long()
    assert run.status is RunStatus.COMPLETED
    assert [item.kind for message in world.answers.output(run) for item in items_of(message)] == [
        ItemKind.COMPACTION,
        ItemKind.MESSAGE,
    ]
    shown = world.shown()
    assert shown[1:] == ["the gist", "short"]
    assert shown[0].startswith("Sum up our conversation")
    assert LONG in world.model.requests[1].messages[-1].text
    assert world.told(run.thread_id) == [LONG, "more " + LONG, "first", "short", "the gist", "second"]


def test_what_comes_next_goes_on_from_it_and_a_branch_before_it_does_not(world: World) -> None:
    run = world.long()
    world.answer("and now", previous=run.id, compact_threshold=100)
    assert world.shown()[1:] == ["the gist", "short", "second", "and now"]
    first = next(
        run
        for run in world.repository.runs.list(run.thread_id, Page(limit=None, order="asc")).items
        if not run.compaction
    )
    world.answer("otherwise", previous=first.id)
    assert world.shown() == [LONG, "more " + LONG, "first", "otherwise"]


def test_a_branch_behind_it_has_it_too(world: World) -> None:
    run = world.long()
    world.answer("one way", previous=run.id)
    branch = world.answer("another", previous=run.id)
    assert branch.thread_id != run.thread_id
    assert world.shown()[1:] == ["the gist", "short", "second", "another"]


def test_its_event_follows_from_the_run(world: World) -> None:
    run = world.long()
    events = [event.event for event in world.answers.events(run) if isinstance(event, LifecycleEvent)]
    assert events[:5] == ["run.created", "run.queued", "run.in_progress", COMPACTED, "run.step.created"]
    summary = next(message for message in world.answers.output(run) if is_summary(message))
    assert run.compaction["message_id"] == summary.id
    assert summary.run_id == run.id
    opened = world.items.opened([SealedDraft("compaction", run.compaction["encrypted_content"])], ["input.0"])[0]
    assert [getattr(draft, "text", "") or draft.content[0]["text"]["value"] for draft in opened] == [
        "the gist",
        "short",
    ]


def test_a_short_prompt_and_one_without_anything_older_are_left_alone(world: World) -> None:
    first = world.answer(LONG)
    run = world.answer("short", previous=first.id, compact_threshold=1000)
    assert not run.compaction
    assert world.shown() == [LONG, "first", "short"]
    alone = world.answer(LONG, compact_threshold=10)
    assert not alone.compaction
    assert world.shown() == [LONG]


@pytest.mark.parametrize(
    "scripts", [[saying("first"), failing(EngineCrashedError("gone")), saying("the gist"), saying("x")]]
)
def test_an_engine_that_dies_over_it_is_asked_again(world: World) -> None:
    run = world.long()
    assert run.status is RunStatus.COMPLETED
    assert world.told(run.thread_id)[-2:] == ["the gist", "x"]


@pytest.mark.parametrize("scripts", [[saying("first"), saying(" "), saying("never")]])
def test_a_model_that_gives_none_fails_the_answer(world: World) -> None:
    run = world.long()
    assert run.status is RunStatus.FAILED
    assert "no summary" in (run.error_message or "")
    assert world.told(run.thread_id) == [LONG, "more " + LONG, "first"]


@pytest.mark.parametrize("scripts", [[saying("first"), saying("the gist"), hanging("se"), saying("second")]])
def test_the_next_runner_finds_it_again(world: World) -> None:
    first = world.answer(LONG, "more " + LONG)
    run = world.create("short", previous=first.id, compact_threshold=100)
    world.saying(run, "se")
    world.runner.close()
    # As if the process had ended between the summary and the run that tells of it.
    world.repository.runs.update(run.thread_id, run.id, forgotten)
    world.new_runner()
    world.runner.begin(run.thread_id, run.id)
    ended = world.ended(run)
    assert ended.status is RunStatus.COMPLETED
    assert world.told(run.thread_id).count("the gist") == 1


def forgotten(run: Run) -> Run:
    return replace(run, compaction={})


def test_a_cancelled_one_keeps_what_there_is(world: World) -> None:
    world.model.scripts[1:] = [hanging("the ")]
    first = world.answer(LONG, "more " + LONG)
    run = world.create("short", previous=first.id, compact_threshold=100)
    while len(world.model.requests) < 2:
        pass
    ended = world.answers.cancel(run.id, run.kind)
    assert ended.status is RunStatus.CANCELLED
    assert not ended.compaction
    assert world.told(run.thread_id) == [LONG, "more " + LONG, "first"]


def test_a_draft_has_none_by_itself() -> None:
    assert AnswerDraft().compact_threshold is None
