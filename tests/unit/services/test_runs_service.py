"""Runs as they are asked for: who decides what, what is refused, and what stays when something goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from janflask.errors import (
    InvalidRequestError,
    JanflaskError,
    ModelNotFoundError,
    NotFoundError,
    RequestTooLargeError,
    StoreBusyError,
    TimeoutExceededError,
    UnavailableError,
)
from janflask.ipc.clients.runner import RunnerClient
from janflask.services.assistants import AssistantService
from janflask.services.messages import MessageService
from janflask.services.models import ModelService
from janflask.services.replies import reply_message
from janflask.services.runs import RunService
from janflask.services.threads import ThreadService
from janflask.settings import Settings
from janflask.storage.base import Page
from janflask.storage.memory import memory_repository
from janflask.storage.records import Message, MessageDraft, Run, RunDraft, RunStatus, ThreadAssistant, ThreadDraft
from janflask.storage.run_log import TextEvent
from tests.fakes.crossing import crossing


def draft(text: str) -> MessageDraft:
    return MessageDraft(role="user", content=({"type": "text", "text": {"value": text, "annotations": []}},))


def ended(run: Run) -> Run:
    return replace(run, status=RunStatus.COMPLETED)


@dataclass
class FakeModels:
    """Those that are on disk."""

    ids: list[str] = field(default_factory=lambda: ["m"])

    def usable(self) -> list[str]:
        return self.ids

    def card(self, model_id: str) -> Any:
        if model_id not in self.ids:
            raise ModelNotFoundError(f"no {model_id}")
        return SimpleNamespace(id=model_id)


class FakeRunner:
    """Takes what it is told, or is not there."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.refusal: JanflaskError | None = None

    def begin(self, thread_id: str, run_id: str, timeout: float) -> Run:
        if self.refusal is not None:
            raise crossing(self.refusal)
        self.begun.append(run_id)
        return world.repository.runs.get(thread_id, run_id)


class World:
    def __init__(self) -> None:
        self.repository = memory_repository()
        self.models = FakeModels()
        self.runner = FakeRunner()
        settings = Settings(run_timeout=60.0)
        self.assistants = AssistantService(self.repository)
        self.messages = MessageService(settings, self.repository)
        self.threads = ThreadService(settings, self.repository, self.assistants, self.messages)
        self.service = RunService(
            settings,
            self.repository,
            cast(RunnerClient, self.runner),
            assistants=self.assistants,
            messages=self.messages,
            models=cast(ModelService, self.models),
            threads=self.threads,
        )

    def thread(self, **fields: Any) -> str:
        draft_ = ThreadDraft(fields=fields, messages=(draft("hi"),))
        return self.threads.create(draft_).thread.id

    def texts(self, thread_id: str) -> list[str]:
        return [message.text for message in self.repository.threads.all_messages(thread_id)]


world: World


@pytest.fixture(autouse=True)
def fresh() -> None:
    global world
    world = World()


def test_a_run_is_on_disk_before_the_runner_hears_of_it() -> None:
    thread_id = world.thread()
    run = world.service.create(thread_id, RunDraft(metadata={"a": 1}))
    assert world.runner.begun == [run.id]
    assert world.service.get(thread_id, run.id) == run
    assert (run.status, run.model, run.assistant_id) == (RunStatus.QUEUED, "m", "jan")
    assert run.expires_ms - run.created_ms == 60_000
    assert list(world.repository.runs.all_open()) == [(thread_id, run.id)]


@pytest.mark.parametrize(
    "refusal",
    [
        UnavailableError("the runner is shutting down"),
        TimeoutExceededError("the runner took too long"),
        StoreBusyError("another process holds the thread"),
    ],
    ids=lambda refusal: refusal.code,
)
def test_what_the_runner_cannot_begin_now_is_left_to_the_next(refusal: JanflaskError) -> None:
    """The run is on disk: a 503 would have the client make a second one."""
    world.runner.refusal = refusal
    thread_id = world.thread()
    run = world.service.create(thread_id, RunDraft())
    assert list(world.repository.runs.all_open()) == [(thread_id, run.id)]


@pytest.mark.parametrize("refusal", [NotFoundError("no such run"), UnavailableError("it ends")], ids=lambda e: e.code)
def test_a_thread_is_busy_also_with_a_run_that_the_runner_does_not_find(refusal: JanflaskError) -> None:
    thread_id = world.thread()
    first = world.service.create(thread_id, RunDraft())
    world.runner.refusal = refusal
    with pytest.raises(InvalidRequestError, match=f"already has an active run {first.id}") as caught:
        world.service.create(thread_id, RunDraft())
    assert caught.value.status == 400


def test_one_run_at_a_time() -> None:
    thread_id = world.thread()
    first = world.service.create(thread_id, RunDraft())
    with pytest.raises(InvalidRequestError, match=f"already has an active run {first.id}"):
        world.service.create(thread_id, RunDraft(additional_messages=(draft("more"),)))
    assert world.texts(thread_id) == ["hi"]
    assert world.runner.begun == [first.id, first.id], "it may be one that nobody was told of"
    with pytest.raises(InvalidRequestError, match="Can't add messages"):
        world.messages.create(thread_id, draft("more"))
    world.repository.runs.close(thread_id, first.id, ended)
    world.messages.create(thread_id, draft("more"))


def speaking(thread_id: str, *pieces: str) -> Run:
    """A run that has begun to answer."""
    run = world.service.create(thread_id, RunDraft())
    with world.repository.runs.event_log(thread_id, run.id) as writer:
        writer.add([TextEvent(piece) for piece in pieces])
    return world.repository.runs.update(
        thread_id, run.id, lambda run: replace(run, status=RunStatus.IN_PROGRESS, replied_ms=run.created_ms + 1)
    )


def test_a_reply_is_read_as_it_grows() -> None:
    thread_id = world.thread()
    (hi,) = world.repository.threads.message_ids(thread_id)
    run = speaking(thread_id, "The ", "sea")
    newest, oldest = world.messages.list(thread_id, Page()).items
    assert (newest.id, newest.text, newest.status, newest.run_id) == (run.message_id, "The sea", "in_progress", run.id)
    assert oldest.id == hi
    assert world.messages.get(thread_id, run.message_id) == newest
    assert list(world.messages.list(thread_id, Page(order="asc", limit=1)).items) == [oldest]
    assert world.messages.list(thread_id, Page(order="asc", limit=1)).has_more
    assert list(world.messages.list(thread_id, Page(order="asc", after=hi)).items) == [newest]
    assert list(world.messages.list(thread_id, Page(after=run.message_id)).items) == [oldest]
    assert list(world.messages.list(thread_id, Page(), run_id=run.id).items) == [newest]
    assert not world.messages.list(thread_id, Page(), run_id="run_other").items


def test_a_reply_that_is_stored_and_not_yet_ended_is_listed_once() -> None:
    thread_id = world.thread()
    run = speaking(thread_id, "The sea")
    world.repository.threads.append(thread_id, [reply_message(ended(run), "The sea.")])
    assert [message.text for message in world.messages.list(thread_id, Page()).items] == ["The sea.", "hi"]
    assert world.messages.get(thread_id, run.message_id).text == "The sea."


def test_a_run_that_has_not_begun_to_answer_has_no_message() -> None:
    thread_id = world.thread()
    run = world.service.create(thread_id, RunDraft())
    assert [message.text for message in world.messages.list(thread_id, Page()).items] == ["hi"]
    with pytest.raises(NotFoundError):
        world.messages.get(thread_id, run.message_id)


def test_a_growing_reply_is_not_changed_or_deleted() -> None:
    thread_id = world.thread()
    run = speaking(thread_id, "The sea")
    with pytest.raises(InvalidRequestError, match=f"is being written by run {run.id}"):
        world.messages.modify(thread_id, run.message_id, {"metadata": {"a": "b"}})
    with pytest.raises(InvalidRequestError, match="is being written"):
        world.messages.delete(thread_id, run.message_id)


def test_messages_that_were_added_for_a_run_that_came_too_late_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    thread_id = world.thread()
    monkeypatch.setattr(world.repository.runs, "create", lambda *_: False)
    with pytest.raises(InvalidRequestError, match="active run"):
        world.service.create(thread_id, RunDraft(additional_messages=(draft("more"),)))
    assert world.texts(thread_id) == ["hi"]


@pytest.mark.parametrize("what", ["changed", "added", "deleted"])
def test_a_message_that_is_another_one_by_then_is_not_continued(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = replace(draft("Once upon"), role="assistant")
    thread_id = world.threads.create(ThreadDraft(messages=(draft("hi"), answer))).thread.id
    _, last = world.repository.threads.all_messages(thread_id)
    create = world.repository.runs.create

    def late(run: Run, *still: Any) -> bool:
        """Somebody else was quicker."""
        if what == "added":
            world.messages.create(thread_id, draft("and?"))
        elif what == "deleted":
            world.messages.delete(thread_id, last.id)
        else:
            world.messages.modify(thread_id, last.id, {"content": answer.content * 2})
        return create(run, *still)

    monkeypatch.setattr(world.repository.runs, "create", late)
    with pytest.raises(InvalidRequestError) as caught:
        world.service.create(thread_id, RunDraft(continue_last=True))
    assert caught.value.param == "continue_last"
    assert not world.service.list(thread_id, Page()).items
    assert world.repository.runs.open_run(thread_id) is None


def test_added_messages_come_before_the_answer() -> None:
    thread_id = world.thread()
    world.service.create(thread_id, RunDraft(additional_messages=(draft("a"), draft("b"))))
    assert world.texts(thread_id) == ["hi", "a", "b"]


def test_added_messages_are_stored_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    thread_id = world.thread()
    steps: list[int] = []
    append = world.repository.threads.append

    def counted(thread_id: str, messages: Sequence[Message]) -> None:
        steps.append(len(messages))
        append(thread_id, messages)

    monkeypatch.setattr(world.repository.threads, "append", counted)
    large = draft("x" * (5 << 20))
    with pytest.raises(RequestTooLargeError) as caught:
        world.service.create(thread_id, RunDraft(additional_messages=(draft("a"), large)))
    assert (caught.value.param, steps) == ("additional_messages.1", [])
    world.service.create(thread_id, RunDraft(additional_messages=(draft("a"), draft("b"))))
    assert steps == [2]


# --- who decides ----------------------------------------------------------------------------------------------------


def test_run_over_thread_over_assistant() -> None:
    world.models.ids = ["of-run", "of-thread", "of-entry", "of-assistant"]
    world.assistants.create(
        {
            "id": "tutor",
            "model": "of-assistant",
            "instructions": "the assistant's",
            "temperature": 0.1,
            "top_p": 0.5,
        }
    )
    bare = world.threads.create(ThreadDraft(assistants=("tutor",))).thread.id
    run = world.service.create(bare, RunDraft())
    assert (run.model, run.instructions, run.temperature, run.top_p) == ("of-assistant", "the assistant's", 0.1, 0.5)

    entry = ThreadAssistant(
        assistant_id="tutor",
        instructions="the entry's",
        model={"id": "of-entry", "parameters": {"temperature": 0.2, "top_k": 3}, "settings": {"ctx_len": 512}},
    )
    some = world.threads.create(ThreadDraft(assistants=(entry,))).thread.id
    run = world.service.create(some, RunDraft())
    assert (run.model, run.instructions, run.temperature, run.top_p) == ("of-entry", "the entry's", 0.2, 0.5)
    assert (run.parameters["top_k"], run.settings) == (3, {"ctx_len": 512})

    fields = {"model_id": "of-thread", "parameters": {"temperature": 0.3}, "settings": {"ctx_len": 256}}
    whole = world.threads.create(ThreadDraft(assistants=(entry,), fields=fields)).thread.id
    run = world.service.create(whole, RunDraft(additional_instructions="and more"))
    assert (run.model, run.instructions) == ("of-thread", "the entry's\n\nand more")
    assert (run.temperature, run.parameters["top_k"], run.settings) == (0.3, 3, {"ctx_len": 256})
    world.repository.runs.close(whole, run.id, ended)

    run = world.service.create(
        whole, RunDraft(model="of-run", instructions="", temperature=0.4, parameters={"top_k": 9})
    )
    assert (run.model, run.instructions, run.temperature) == ("of-run", "", 0.4)
    assert run.parameters["top_k"] == 9


def test_an_assistant_that_only_the_thread_knows() -> None:
    entry = ThreadAssistant(assistant_id="theirs", instructions="Be brief.")
    thread_id = world.threads.create(ThreadDraft(assistants=(entry,))).thread.id
    assert world.service.create(thread_id, RunDraft(assistant_id="theirs")).instructions == "Be brief."


@pytest.mark.parametrize("assistant_id", ["nobody", "../x", ""])
def test_an_unknown_assistant_is_refused(assistant_id: str) -> None:
    thread_id = world.thread()
    with pytest.raises(NotFoundError, match="there is no assistant"):
        world.service.create(thread_id, RunDraft(assistant_id=assistant_id))
    assert list(world.repository.runs.all_open()) == []


@pytest.mark.parametrize("ids", [[], ["a", "b"]])
def test_a_model_is_not_guessed_where_there_is_a_choice(ids: list[str]) -> None:
    world.models.ids = ids
    with pytest.raises(InvalidRequestError, match="set model") as caught:
        world.service.create(world.thread(), RunDraft())
    assert caught.value.param == "model"


# --- threads that are made for a run --------------------------------------------------------------------------------


def test_thread_and_run_in_one() -> None:
    run = world.service.create_with_thread(RunDraft(thread=ThreadDraft(messages=(draft("hi"),))))
    assert world.texts(run.thread_id) == ["hi"]


def test_without_a_run_there_is_no_thread() -> None:
    with pytest.raises(ModelNotFoundError):
        world.service.create_with_thread(RunDraft(model="none"))
    assert world.threads.count() == 0


# --- afterwards -----------------------------------------------------------------------------------------------------


def test_reading_and_changing() -> None:
    thread_id = world.thread()
    run = world.service.create(thread_id, RunDraft())
    assert world.service.modify(thread_id, run.id, {"metadata": {"k": "v"}}).metadata == {"k": "v"}
    assert [item.id for item in world.service.list(thread_id, Page()).items] == [run.id]
    with pytest.raises(NotFoundError):
        world.service.list("thread_none", Page())
    for run_id in ("run_none", "../x"):
        with pytest.raises(NotFoundError):
            world.service.get(thread_id, run_id)
    with pytest.raises(InvalidRequestError, match="tool outputs"):
        world.service.submit(thread_id, run.id, [("call_1", "x")])
