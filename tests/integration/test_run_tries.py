"""How often a run's steps knock at an engine that is not there: the tries of all of them together are limited once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from janflask.container import Services
from janflask.files import ids
from janflask.inference import tries
from janflask.inference.tries import ATTEMPTS
from janflask.ipc.messages.engine import Chunk, Started
from janflask.runner.runner import Runner
from janflask.settings import Settings
from janflask.storage.memory import memory_repository
from janflask.storage.records import Run, RunStatus, Thread
from tests.fakes.scripted import Conversation, ScriptedEngine, ScriptedSupervisor, say
from tests.unit.runner.run_world import message, watch


class World:
    """A runner over a scripted supervisor and its engine; ``engine.sock`` may be deaf."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = Settings(data_dir=folder / "data", runtime_dir=folder, request_timeout=20.0)
        model = settings.models_dir / "tiny"
        model.mkdir(parents=True)
        (model / "model.gguf").write_bytes(b"GGUF")
        (model / "model.json").write_text(json.dumps({"id": "tiny"}))
        self.supervisor = ScriptedSupervisor(folder)
        self.engine = ScriptedEngine(folder / "engine.sock")
        self.supervisor.states["tiny"] = self.supervisor.run("tiny", self.engine)
        self.repository = memory_repository()
        self.runner = Runner(settings, Services.of(settings, self.repository), self.repository)

    def deafen(self) -> None:
        """Nobody listens where the supervisor says that the engine does, however often it is started."""
        dead = self.folder / "dead.sock"
        dead.touch()
        state = replace(self.supervisor.states["tiny"], socket=str(dead))
        self.supervisor.states["tiny"] = self.supervisor.running["tiny"] = state

    def run(self) -> Run:
        """A run of a new thread, once it is over."""
        now, thread_id = ids.now_ms(), ids.new_id(ids.THREAD)
        self.repository.threads.create(Thread(id=thread_id, created_ms=now, updated_ms=now), [message(thread_id, "hi")])
        run = Run(
            id=ids.new_id(ids.RUN),
            thread_id=thread_id,
            assistant_id="jan",
            message_id=ids.new_id(ids.MESSAGE),
            step_id=ids.new_id("step_"),
            created_ms=now,
            expires_ms=now + 60_000,
            model="tiny",
        )
        self.repository.runs.create(run)
        for _ in watch(self.runner, run):
            pass
        return self.repository.runs.get(run.thread_id, run.id)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.001)
    with tempfile.TemporaryDirectory(prefix="jf-") as name:
        world = World(Path(name))
        try:
            yield world
        finally:
            world.runner.close()
            world.supervisor.close()
            world.engine.close()


def test_an_engine_that_is_never_there_is_tried_five_times(world: World) -> None:
    world.deafen()
    final = world.run()
    assert final.status is RunStatus.FAILED
    assert "cannot be reached" in (final.error_message or "")
    assert len(world.supervisor.starts) == ATTEMPTS - 1, "the first try went by what was remembered"


def test_an_engine_that_ends_before_each_word_is_asked_five_times(world: World) -> None:
    world.engine.script = lambda conversation: conversation.send(Started(7))
    assert world.run().status is RunStatus.FAILED
    assert len(world.engine.requests) == ATTEMPTS


def test_deaths_at_different_steps_count_together(world: World) -> None:
    """Three in the middle of an answer, and then nobody is there: two tries are left for that."""
    ends = 0

    def script(conversation: Conversation) -> None:
        nonlocal ends
        ends += 1
        conversation.send(Started(7))
        if ends == 3:
            world.deafen()
            world.engine.path.unlink()

    world.engine.script = script
    assert world.run().status is RunStatus.FAILED
    assert ends == 3
    assert len(world.supervisor.starts) == ATTEMPTS - 3 - 1, "the first of them went by what the supervisor says"


def test_a_prompt_is_laid_out_and_cut_into_tokens_once(world: World) -> None:
    assert world.run().status is RunStatus.COMPLETED
    (asked,) = world.engine.requests
    (cut,) = world.engine.tokenized
    assert isinstance(asked.prompt, tuple)
    assert bytes(asked.prompt).decode() == cut.text
    assert not asked.add_special


def test_an_answer_that_had_begun_is_gone_on_with_as_text(world: World) -> None:
    """What was said and what comes are one text to the tokenizer."""
    ends = [True, False]

    def script(conversation: Conversation) -> None:
        if ends.pop(0):
            conversation.send(Started(7), Chunk(0, "one "))
        else:
            say("two")(conversation)

    world.engine.script = script
    assert world.run().status is RunStatus.COMPLETED
    first, second = world.engine.requests
    assert isinstance(first.prompt, tuple)
    assert second.prompt == bytes(first.prompt).decode() + "one "
