"""The streams of runs that an earlier version wrote: with the numbers that they had, from whichever one on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from janflask.api.answers.run_events import RunEventWriter
from janflask.ipc.messages.runner import RunChanged
from janflask.storage.base import Page
from janflask.storage.records import Run
from tests.integration.test_old_store import messages, repository, set_expiry, settings, thread_of, world
from tests.integration.test_runner_socket import all_news, serving
from tests.unit.api.test_run_events import RunEvent, parsed
from tests.unit.runner.run_world import RunWorld

__all__ = ["repository", "settings", "world"]

ENDS = {  # of a run that had begun to reply
    "completed": ["message.completed", "run.step.completed", "run.completed"],
    "incomplete": ["message.incomplete", "run.step.completed", "run.incomplete"],
    "cancelled": ["run.cancelling", "message.incomplete", "run.step.cancelled", "run.cancelled"],
}
OPENING = [
    *("run.created", "run.queued", "run.in_progress", "run.step.created", "run.step.in_progress"),
    *("message.created", "message.in_progress"),
]


def stream(world: RunWorld, run: Run, after: int = 0) -> list[RunEvent]:
    """What a client that comes back behind number ``after`` is told, over the runner's socket."""
    world.new_runner()
    writer, told = RunEventWriter(after), b""
    with serving(world) as client:
        for news in all_news(client, run.thread_id, run.id):
            if isinstance(news, RunChanged):
                writer.run(news.run)
            else:
                told += writer.events(news.first, news.events)
    return parsed(told + writer.end())


def pieces(world: RunWorld, run: Run) -> list[str]:
    path = world.settings.threads_dir / run.thread_id / "runs" / f"{run.id}.reply"
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def last_run(world: RunWorld, kind: str) -> Run:
    thread = thread_of(world.repository, kind)
    return world.repository.runs.list(thread.id, Page()).items[0]


@pytest.mark.parametrize("kind", ENDS)
def test_a_run_that_has_ended(world: RunWorld, kind: str) -> None:
    run = last_run(world, kind)
    said = pieces(world, run)
    whole = stream(world, run)
    names = [*OPENING, *["message.delta"] * len(said), *ENDS[kind]]
    assert [(event.number, event.name) for event in whole] == [
        (number, f"thread.{name}") for number, name in enumerate(names, 1)
    ]
    texts = [event.data["delta"]["content"][0]["text"]["value"] for event in whole if "delta" in event.name]
    assert texts == said
    for after in (0, 1, 6, 7, 8, len(said), len(names) - 1, len(names), len(names) + 5):
        assert stream(world, run, after) == whole[after:]


def test_a_run_that_was_under_way(world: RunWorld) -> None:
    run = last_run(world, "open")
    set_expiry(world, run, run.created_ms + 10**12)
    said = pieces(world, run)
    whole = stream(world, run)
    assert [event.number for event in whole] == list(range(1, 7 + len(said) + 1 + 3 + 1))
    assert [event.data["delta"]["content"][0]["text"]["value"] for event in whole[7:-3]] == [*said, " and on"]
    for after in (0, 7, 7 + len(said), len(whole) - 1, len(whole)):
        assert stream(world, run, after) == whole[after:]
    assert messages(world.repository, thread_of(world.repository, "open"))[-1].text == "".join([*said, " and on"])


def test_its_log_is_text_and_objects(world: RunWorld) -> None:
    run = last_run(world, "open")
    set_expiry(world, run, run.created_ms + 10**12)
    path: Path = world.settings.threads_dir / run.thread_id / "runs" / f"{run.id}.reply"
    before = path.read_bytes()
    stream(world, run)
    after = path.read_bytes()
    assert after.startswith(before)
    assert [json.loads(line)["type"] for line in after[len(before) :].splitlines()] == ["text", *["lifecycle"] * 3]
