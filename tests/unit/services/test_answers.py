"""Answers that are asked for by themselves: where they are given, what they find there, and what stays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import (
    ConflictError,
    EngineError,
    InvalidRequestError,
    JanflaskError,
    NotFoundError,
    RequestTooLargeError,
)
from janflask.files import ids
from janflask.inference.waiting import Waiter
from janflask.ipc.messages.runner import RunSaid
from janflask.services.item_lookup import finder
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.answers import BRANCHED_FROM
from janflask.storage.base import Order, Page, Repository
from janflask.storage.items import CallDraft, ItemReference, OutputDraft, ReasoningDraft, items_of
from janflask.storage.memory import memory_repository
from janflask.storage.records import Run, RunKind, RunStatus
from janflask.storage.run_log import LogEvent, ToolCallEvent, missing, texts_of
from tests.unit.runner.run_world import LIMIT, calling, failing, hanging, saying
from tests.unit.services.answer_world import CHAT, RESPONSE, AnswerWorld, briefly, said

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(params=["memory", "files"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    makers: dict[str, Callable[[], Repository]] = {
        "memory": memory_repository,
        "files": lambda: open_repository(Settings(data_dir=tmp_path / "data", durability="os")),
    }
    return makers[request.param]()


@pytest.fixture
def world(repository: Repository) -> Iterator[AnswerWorld]:
    world = AnswerWorld(saying("Hel", "lo"), repository=repository)
    yield world
    world.runner.close()


def all_threads(world: AnswerWorld) -> list[str]:
    return [thread.id for thread in world.repository.threads.all()]


# --- a new conversation -----------------------------------------------------------------------------------------------


def test_a_new_answer_has_a_thread_of_its_own(world: AnswerWorld) -> None:
    run = world.answer(ReasoningDraft("Hm"), said("Yes?", "assistant"), "hi", instructions="Be brief", max_tokens=9)
    assert ids.thread_of(run.id) == run.thread_id
    assert (run.status, run.kind, run.model) == (RunStatus.COMPLETED, RESPONSE, "m")
    assert world.told(run.thread_id) == ["Hm", "Yes?", "hi", "Hello"]
    assert world.shown() == ["Be brief", "Yes?", "hi"]
    assert world.model.requests[-1].max_tokens == 9
    thread = world.repository.threads.get(run.thread_id)
    assert (thread.title, thread.model_id) == ("hi", "m")
    assert world.answers.get(run.id, RESPONSE) == run
    assert briefly(world.answers.input(run)) == ["Hm", "Yes?", "hi"]
    assert briefly(world.answers.output(run)) == ["Hello"]
    assert "".join(texts_of(world.answers.events(run))) == "Hello"


def test_it_is_on_disk_with_its_input_before_the_runner_hears_of_it(
    world: AnswerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Run, list[str]]] = []

    def begin(thread_id: str, run_id: str) -> Run:
        run = world.repository.runs.get(thread_id, run_id)
        seen.append((run, briefly(world.answers.input(run))))
        return run

    monkeypatch.setattr(world.runner, "begin", begin)
    run = world.create("hi")
    assert seen == [(run, ["hi"])]
    assert list(world.repository.runs.all_open()) == [(run.thread_id, run.id)]


def test_parameters_are_its_own_and_nobody_elses(world: AnswerWorld) -> None:
    thread_id = world.thread("hi", title="t")
    world.repository.threads.update(thread_id, lambda thread: replace(thread, parameters={"temperature": 1.5}))
    world.answer("and?", conversation=thread_id, parameters={"top_p": 0.5})
    assert world.model.requests[-1].sampling == {"top_p": 0.5}


# --- behind another one -----------------------------------------------------------------------------------------------


def test_an_answer_behind_the_newest_one_stays_in_its_thread(world: AnswerWorld) -> None:
    first = world.answer("hi", instructions="Be brief")
    second = world.answer("and?", previous=first.id)
    assert second.thread_id == first.thread_id
    assert world.told(first.thread_id) == ["hi", "Hello", "and?", "Hello"]
    assert world.shown() == ["hi", "Hello", "and?"], "instructions are not inherited"
    assert (second.input, briefly(world.answers.input(second))) == ((), ["and?"])
    assert briefly(world.answers.input(first)) == ["hi"]


def test_an_older_one_gets_a_branch(world: AnswerWorld) -> None:
    first = world.answer("hi")
    second = world.answer("and?", previous=first.id)
    other = world.answer("or?", previous=first.id)
    assert other.thread_id != first.thread_id
    assert world.told(first.thread_id) == ["hi", "Hello", "and?", "Hello"]
    assert world.told(other.thread_id) == ["hi", "Hello", "or?", "Hello"]
    named = [message.id for message in world.repository.threads.all_messages(first.thread_id)][:2]
    assert [message.id for message in world.repository.threads.all_messages(other.thread_id)][:2] == named
    extra = world.repository.threads.get(other.thread_id).extra
    assert extra[BRANCHED_FROM] == {"thread_id": first.thread_id, "response_id": first.id}
    third = world.answer("so?", previous=other.id)
    assert third.thread_id == other.thread_id
    assert world.answer("yes?", previous=second.id).thread_id == first.thread_id


def test_something_that_was_added_since_is_not_seen(world: AnswerWorld) -> None:
    first = world.answer("hi")
    world.items.create(first.thread_id, [said("secret")], ["items.0"])
    second = world.answer("and?", previous=first.id)
    assert second.thread_id != first.thread_id
    assert world.told(second.thread_id) == ["hi", "Hello", "and?", "Hello"]


def test_two_at_the_same_moment_never_see_each_other(world: AnswerWorld) -> None:
    """In no order of events: many times, and each may be in any step when the others go on."""
    first = world.answer("hi")
    made: list[Run] = []
    gate = threading.Barrier(6)

    def follow(number: int) -> None:
        gate.wait()
        made.append(world.create(f"number {number}", previous=first.id))

    for turn in range(5):
        threads = [threading.Thread(target=follow, args=(turn * 6 + number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ended = [world.ended(run) for run in made]
    assert [run.status for run in ended] == [RunStatus.COMPLETED] * 30
    assert len({run.thread_id for run in ended}) == 30
    assert sum(run.thread_id == first.thread_id for run in ended) == 1
    for run in ended:
        (own,) = briefly(world.answers.input(run))
        assert world.told(run.thread_id) == ["hi", "Hello", own, "Hello"]
    shown = [[turn.text for turn in request.messages] for request in world.model.requests[1:]]
    assert sorted(turns[-1] for turns in shown) == sorted(f"number {number}" for number in range(30))
    assert {tuple(turns[:-1]) for turns in shown} == {("hi", "Hello")}


def test_one_that_came_and_went_between_look_and_step_is_noticed(
    world: AnswerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.answer("hi")
    create = type(world.repository.runs).create
    calls: list[Run] = []

    def late(store: Any, run: Run, *args: Any) -> bool:
        calls.append(run)
        if len(calls) == 1:  # the other one is asked for, and is over, in this very moment
            world.answer("quick", previous=first.id)
        return create(store, run, *args)

    monkeypatch.setattr(type(world.repository.runs), "create", late)
    slow = world.answer("slow", previous=first.id)
    assert world.told(first.thread_id) == ["hi", "Hello", "quick", "Hello"]
    assert world.told(slow.thread_id) == ["hi", "Hello", "slow", "Hello"]


def refusal(error: type[JanflaskError], act: Callable[[], object]) -> JanflaskError:
    with pytest.raises(error) as raised:
        act()
    return raised.value


def test_a_previous_answer_that_is_not_there(world: AnswerWorld) -> None:
    run = world.answer("hi")
    chat = world.answer("hi", kind=CHAT)
    world.answers.delete(run.id, RESPONSE)
    for name in (run.id, chat.id, "resp_1", "../../x", ids.new_answer_id(ids.RESPONSE, chat.thread_id), "run_1"):
        error = refusal(NotFoundError, lambda name=name: world.create("and?", previous=name))  # type: ignore[misc]
        assert (error.code, error.param) == ("previous_response_not_found", "previous_response_id")
    assert all_threads(world) == [chat.thread_id]


def test_a_previous_answer_that_is_not_over(world: AnswerWorld) -> None:
    world.model.scripts = [hanging("Hm")]
    run = world.create("hi")
    error = refusal(InvalidRequestError, lambda: world.create("and?", previous=run.id))
    assert (error.status, error.param) == (400, "previous_response_id")
    assert all_threads(world) == [run.thread_id]
    world.answers.cancel(run.id, RESPONSE)


def test_a_previous_answer_that_broke_off_needs_output(world: AnswerWorld) -> None:
    world.model.scripts = [failing(EngineError("no")), failing(EngineError("no"), "half"), saying("whole")]
    failed, half = world.answer("hi"), world.answer("ho")
    assert (failed.status, half.status) == (RunStatus.FAILED, RunStatus.FAILED)
    error = refusal(InvalidRequestError, lambda: world.create("and?", previous=failed.id))
    assert (error.status, error.param) == (400, "previous_response_id")
    assert world.told(world.answer("and?", previous=half.id).thread_id) == ["ho", "half", "and?", "whole"]


def test_one_that_fails_without_a_word_is_in_nobodys_way(world: AnswerWorld) -> None:
    first = world.answer("hi")
    world.model.scripts = [failing(EngineError("no")), saying("whole")]
    failed = world.answer("and?", previous=first.id)
    assert (failed.status, failed.thread_id) == (RunStatus.FAILED, first.thread_id)
    assert world.told(first.thread_id) == ["hi", "Hello"]
    assert briefly(world.answers.input(failed)) == ["and?"]
    error = refusal(InvalidRequestError, lambda: world.create("so?", previous=failed.id))
    assert "ended without output (failed)" in error.message
    again = world.answer("and?", previous=first.id)
    assert again.thread_id == first.thread_id
    assert world.told(first.thread_id) == ["hi", "Hello", "and?", "whole"]


# --- in a conversation ------------------------------------------------------------------------------------------------


def test_a_conversation_is_answered_in(world: AnswerWorld) -> None:
    thread_id = world.thread("hi", title="t")
    run = world.answer("and?", conversation=ids.conversation_id(thread_id))
    assert run.thread_id == thread_id
    assert world.told(thread_id) == ["hi", "and?", "Hello"]
    other = world.answer("or?", previous=run.id)
    assert other.thread_id != thread_id, "what was named is for those who name it"
    assert world.told(other.thread_id) == ["hi", "and?", "Hello", "or?", "Hello"]


def test_a_conversation_is_answered_by_one_at_a_time(world: AnswerWorld) -> None:
    world.model.scripts = [hanging("Hm")]
    thread_id = world.thread("hi", title="t")
    run = world.create("and?", conversation=thread_id)
    error = refusal(ConflictError, lambda: world.create("or?", conversation=thread_id))
    assert (error.status, error.code, error.param) == (409, "conversation_locked", "conversation")
    world.saying(run, "Hm")
    world.answers.cancel(run.id, RESPONSE)
    assert world.told(thread_id) == ["hi", "and?", "Hm"]


def test_who_comes_at_the_same_moment_finds_a_conversation_locked(world: AnswerWorld) -> None:
    thread_id = world.thread("hi", title="t")
    made: list[Run] = []
    refused: list[JanflaskError] = []
    gate = threading.Barrier(6)

    def ask(number: int) -> None:
        gate.wait()
        try:
            made.append(world.create(f"number {number}", conversation=thread_id))
        except ConflictError as error:
            refused.append(error)

    for turn in range(5):
        threads = [threading.Thread(target=ask, args=(turn * 6 + number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(made) + len(refused) == 30
    assert {error.code for error in refused} <= {"conversation_locked"}
    ended = [world.ended(run) for run in made]
    texts = {run.id: briefly(world.answers.input(run))[0] for run in ended}
    told = world.told(thread_id)
    assert (told[0], sorted(told[1::2]), set(told[2::2])) == ("hi", sorted(texts.values()), {"Hello"})


def test_more_than_a_run_holds_is_refused(tmp_path: Path) -> None:
    world = AnswerWorld(saying("Hello"), repository=open_repository(Settings(data_dir=tmp_path)))
    thread_id = world.thread("hi", title="t")
    error = refusal(RequestTooLargeError, lambda: world.create(*["x" * (3 << 20)] * 3, conversation=thread_id))
    assert error.param == "input"
    assert world.told(thread_id) == ["hi"]
    assert list(world.repository.runs.all_open()) == []
    world.runner.close()


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"conversation": "conv_1"}, NotFoundError, "conversation"),
        ({"conversation": "../x"}, NotFoundError, "conversation"),
        ({"conversation": "conv_1", "previous": "resp_1"}, InvalidRequestError, "conversation"),
        ({"conversation": "t" * 120}, InvalidRequestError, "conversation"),
        ({"tools": ({"type": "function"},)}, InvalidRequestError, "tools.0.function"),
        ({"tools": (LOOK,), "input": (OutputDraft("call_9", "x"),)}, InvalidRequestError, "input.0"),
        ({"input": (CallDraft("call_9", "look", "{}"),), "places": ("input.0",)}, InvalidRequestError, "input"),
        ({"input": (), "places": ()}, InvalidRequestError, "input"),
        ({"input": (ItemReference("msg_1"),), "places": ("input.0",)}, NotFoundError, "input.0"),
    ],
)
def test_what_cannot_be_answered_changes_nothing(
    world: AnswerWorld, fields: dict[str, Any], error: type[JanflaskError], param: str
) -> None:
    if len(fields.get("conversation", "")) == 120:
        world.repository.threads.create(replace(world.repository.threads.get(world.thread("hi")), id="t" * 120))
    before = all_threads(world)
    raised = refusal(error, lambda: world.create("hi", **fields))
    assert raised.param == param
    assert all_threads(world) == before
    assert list(world.repository.runs.all_open()) == []


# --- calls ------------------------------------------------------------------------------------------------------------


def test_calls_end_an_answer_and_their_outputs_go_behind_it(world: AnswerWorld) -> None:
    world.model.scripts = [calling(("call_1", "look", "{}"), ("call_2", "look", "[]"), thought="Hm"), saying("A cat")]
    run = world.answer("what?", tools=(LOOK,))
    assert (run.status, [call.id for call in run.wanted]) == (RunStatus.COMPLETED, ["call_1", "call_2"])
    assert world.told(run.thread_id) == ["what?", "Hm", "call_1", "call_2"]
    error = refusal(InvalidRequestError, lambda: world.create("so?", previous=run.id))
    assert error.message.startswith("No tool output found for function call call_1.")
    refusal(InvalidRequestError, lambda: world.create(OutputDraft("call_1", "a"), previous=run.id))
    both = (OutputDraft("call_1", "a"), OutputDraft("call_2", "b"))
    refusal(InvalidRequestError, lambda: world.create(*both, OutputDraft("call_1", "c"), previous=run.id))
    after = world.answer(*both, previous=run.id, tools=(LOOK,))
    assert after.thread_id == run.thread_id
    assert world.told(run.thread_id) == ["what?", "Hm", "call_1", "call_2", "a", "b", "A cat"]
    roles = [turn.role for turn in world.model.requests[-1].messages]
    assert roles == ["user", "assistant", "tool", "tool"]


def test_an_item_of_the_history_is_named(world: AnswerWorld) -> None:
    world.model.scripts = [calling(("call_1", "look", "{}")), saying("A cat")]
    run = world.answer("what?", tools=(LOOK,))
    (output,) = world.answers.output(run)
    first = next(iter(world.answers.input(run)))
    after = world.answer(OutputDraft("call_1", "a"), ItemReference(first.id), previous=run.id)
    assert world.told(after.thread_id) == ["what?", "call_1", "a", "what?", "A cat"]
    assert output.content == ()


def test_what_was_answered_elsewhere_is_named_by_its_id(world: AnswerWorld) -> None:
    """As the AI SDK sends what was answered: without a previous response, each item by its id."""
    world.model.scripts = [calling(("call_1", "look", "{}"), text="Well", thought="Hm"), saying("A cat"), saying("Yes")]
    first = world.answer("what?", tools=(LOOK,))
    items = [item.id for message in world.answers.output(first) for item in items_of(message)]
    named = [ItemReference(item_id) for item_id in items]
    second = world.answer("what?", *named, OutputDraft("call_1", "a"))
    (answered,) = world.answers.output(second)
    third = world.answer("what?", *named, OutputDraft("call_1", "a"), ItemReference(answered.id), "sure?")
    told = ["what?", "Hm", "Well", "call_1", "a", "A cat", "sure?", "Yes"]
    assert world.told(third.thread_id) == told
    assert len({first.thread_id, second.thread_id, third.thread_id}) == 3
    world.answers.delete(second.id, RESPONSE)
    gone = refusal(NotFoundError, lambda: world.create("what?", ItemReference(answered.id)))
    assert (gone.param, gone.status) == ("input.1", 404)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_walk_through_the_input_goes_on_behind_what_is_deleted(world: AnswerWorld, order: Order) -> None:
    run = world.answer(
        "one", ReasoningDraft("Hm"), CallDraft("c", "look", "{}"), OutputDraft("c", "a"), "two", tools=(LOOK,)
    )
    items = world.answers.input_items(run, Page(limit=None, order=order)).items
    assert len(items) == 5
    for number, item in enumerate(items[:-1], 1):
        world.items.delete(run.thread_id, item.id)
        run = world.answers.get(run.id, RESPONSE)
        behind = world.answers.input_items(run, Page(limit=None, order=order, after=item.id)).items
        assert [left.id for left in behind] == [left.id for left in items[number:]]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_walk_through_a_chats_messages_goes_on_behind_what_is_deleted(world: AnswerWorld, order: Order) -> None:
    run = world.answer("one", "two", "three", kind=CHAT)
    _, middle, _ = world.answers.input(run)
    world.messages_.delete(run.thread_id, middle.id)
    (left,) = world.answers.input_messages(run, Page(limit=None, order=order, after=middle.id)).items
    assert left.text == ("three" if order == "asc" else "one")


def test_many_items_of_one_thread_cost_one_walk(world: AnswerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    old = world.answer("old")
    for number in range(5):
        world.answer(f"newer {number}")
    named = [world.items.create(old.thread_id, [said(f"new {number}")], ["items.0"])[0].id for number in range(5)]
    find, looked_at = finder(world.repository.threads, ()), list[str]()
    get = world.repository.threads.get
    monkeypatch.setattr(world.repository.threads, "get", lambda name: (looked_at.append(name), get(name))[1])
    assert [find(name).text for name in named] == [f"new {number}" for number in range(5)]
    assert len(looked_at) == 6 + 4


# --- changing and deleting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RESPONSE, CHAT])
def test_the_last_answer_takes_its_thread_along(world: AnswerWorld, kind: RunKind) -> None:
    run = world.answer("hi", kind=kind)
    world.answers.delete(run.id, kind)
    assert all_threads(world) == []
    for _ in range(2):
        refusal(NotFoundError, lambda: world.answers.delete(run.id, kind))


def test_a_thread_with_other_answers_stays_until_the_last_one(world: AnswerWorld) -> None:
    first = world.answer("hi")
    second = world.answer("and?", previous=first.id)
    branch = world.answer("or?", previous=first.id)
    world.answers.delete(first.id, RESPONSE)
    assert world.told(first.thread_id) == ["hi", "Hello", "and?", "Hello"]
    refusal(NotFoundError, lambda: world.answers.get(first.id, RESPONSE))
    world.answers.delete(second.id, RESPONSE)
    assert all_threads(world) == [branch.thread_id]
    world.answers.delete(branch.id, RESPONSE)
    assert all_threads(world) == []


@pytest.mark.parametrize("added", [True, False])
def test_what_somebody_else_said_or_named_stays(world: AnswerWorld, added: bool) -> None:
    if added:
        run = world.answer("hi")
        world.items.create(run.thread_id, [said("mine")], ["items.0"])
    else:
        run = world.answer("hi", conversation=world.thread(title="t"))
    before = world.told(run.thread_id)
    world.answers.delete(run.id, RESPONSE)
    assert world.told(run.thread_id) == before
    assert world.repository.runs.ids(run.thread_id) == []


@pytest.mark.parametrize("kind", [RESPONSE, CHAT])
def test_of_two_who_delete_one_at_once_the_second_is_told_that_it_is_not_there(
    world: AnswerWorld, monkeypatch: pytest.MonkeyPatch, kind: RunKind
) -> None:
    run = world.answer("hi", kind=kind)
    idle = world.repository.runs.idle

    def idle_after_the_other(thread_id: str) -> Any:
        world.repository.threads.delete(thread_id)
        return idle(thread_id)

    monkeypatch.setattr(world.repository.runs, "idle", idle_after_the_other)
    assert run.id in refusal(NotFoundError, lambda: world.answers.delete(run.id, kind)).message


@pytest.mark.parametrize("kind", [RESPONSE, CHAT])
@pytest.mark.parametrize("others", ["none", "its thread", "an answer"])
def test_one_that_failed_without_a_word_is_taken_back_whoever_deletes_it_too(
    world: AnswerWorld, kind: RunKind, others: str
) -> None:
    world.model.scripts = [failing(EngineError("no"))]
    run = world.answer("hi", kind=kind)
    if others == "its thread":
        world.repository.threads.delete(run.thread_id)
    elif others == "an answer":
        world.answers.delete(run.id, kind)
    world.answers.take_back(run)
    assert all_threads(world) == []


def test_one_that_is_under_way_is_ended_before_it_is_deleted(world: AnswerWorld) -> None:
    world.model.scripts = [hanging("Hm")]
    run = world.create("hi")
    world.saying(run, "Hm")
    world.answers.delete(run.id, RESPONSE)
    assert all_threads(world) == []
    assert list(world.repository.runs.all_open()) == []


def test_cancelling(world: AnswerWorld) -> None:
    world.model.scripts = [hanging("Hm")]
    run = world.create("hi")
    world.saying(run, "Hm")
    cancelled = world.answers.cancel(run.id, RESPONSE)
    assert cancelled.status is RunStatus.CANCELLED
    assert briefly(world.answers.output(cancelled)) == ["Hm"]
    assert world.answers.cancel(run.id, RESPONSE) == cancelled, "one that is over stays as it is"


def test_metadata_can_be_changed(world: AnswerWorld) -> None:
    run = world.answer("hi", kind=CHAT, metadata={"a": "1"})
    assert world.answers.modify(run.id, CHAT, {"metadata": {"b": "2"}}).metadata == {"b": "2"}
    assert world.answers.get(run.id, CHAT).metadata == {"b": "2"}


def test_an_answer_is_found_by_its_kind(world: AnswerWorld) -> None:
    run = world.answer("hi")
    for name, kind in ((run.id, CHAT), ("resp_x", RESPONSE), (run.id.replace("resp_", "chatcmpl-"), CHAT)):
        refusal(NotFoundError, lambda name=name, kind=kind: world.answers.get(name, kind))  # type: ignore[misc]


# --- lists ------------------------------------------------------------------------------------------------------------


def test_a_list_is_of_those_that_match_newest_first(world: AnswerWorld) -> None:
    runs = [world.answer(f"{number}", kind=CHAT, metadata={"odd": number % 2}) for number in range(6)]
    world.answer("hi")

    def listed(**page: Any) -> tuple[list[int], bool]:
        found = world.answers.list(CHAT, Page(**page), lambda run: page.get("odd") is None)
        return [runs.index(run) for run in found.items], found.has_more

    assert listed() == ([5, 4, 3, 2, 1, 0], False)
    assert listed(limit=2) == ([5, 4], True)
    assert listed(limit=2, after=runs[4].id) == ([3, 2], True)
    assert listed(limit=2, before=runs[2].id) == ([4, 3], True)
    assert listed(order="asc", limit=4, after=runs[1].id) == ([2, 3, 4, 5], False)
    assert listed(order="asc", after=runs[1].id, before=runs[4].id) == ([2, 3], False)
    odd = world.answers.list(CHAT, Page(limit=2), lambda run: run.metadata["odd"] == 1)
    assert ([runs.index(run) for run in odd.items], odd.has_more) == ([5, 3], True)
    world.answers.delete(runs[4].id, CHAT)
    assert listed(limit=2, after=runs[4].id) == ([3, 2], True), "one that is gone still tells its place"
    for cursor in ("x", world.answer("hi").id):
        refusal(InvalidRequestError, lambda cursor=cursor: listed(after=cursor))  # type: ignore[misc]


def test_several_of_one_thread_are_listed_in_their_order(world: AnswerWorld) -> None:
    first = world.answer("1")
    second = world.answer("2", previous=first.id)
    third = world.answer("3", previous=second.id)
    found = world.answers.list(RESPONSE, Page(), lambda run: True)
    assert list(found.items) == [third, second, first]
    assert list(world.answers.list(RESPONSE, Page(after=third.id, before=first.id), lambda run: True).items) == [second]


def test_a_page_does_not_read_threads(world: AnswerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        world.answer(f"{number}", kind=CHAT)
    store = world.repository.runs
    read: list[str] = []
    get = type(store).get
    monkeypatch.setattr(type(store), "get", lambda *args: read.append(args[2]) or get(*args))  # type: ignore[func-returns-value]
    assert len(world.answers.list(CHAT, Page(limit=3), lambda run: True).items) == 3
    assert len(read) == 4


def test_the_log_stays_as_long_as_the_answer(world: AnswerWorld) -> None:
    first = world.answer("hi")
    before = list(world.answers.events(first))
    world.answer("and?", previous=first.id)
    assert list(world.answers.events(first)) == before
    assert list(world.repository.runs.events(first.thread_id, first.id)) == before


@pytest.mark.parametrize("kind", [RESPONSE, CHAT])
def test_what_somebody_changed_or_deleted_is_not_told_by_the_log(world: AnswerWorld, kind: RunKind) -> None:
    run = world.answer("hi", kind=kind)
    assert texts_of(heard(world, run)) == ["Hel", "lo"]
    world.messages_.modify(run.thread_id, run.message_id, {"content": said("Good day").content})
    assert texts_of(heard(world, run)) == texts_of(world.answers.events(run)) == ["Good day"]
    world.messages_.delete(run.thread_id, run.message_id)
    assert texts_of(heard(world, run)) == texts_of(world.answers.events(run)) == []


def test_a_deleted_call_is_not_told_by_the_log(world: AnswerWorld) -> None:
    world.model.scripts = [calling(("call_1", "look", "{}"), ("call_2", "look", "[]"), text="Hm", thought="So")]
    run = world.answer("hi", tools=(LOOK,))
    first, second = (call.id for call in run.wanted)
    assert calls_in(heard(world, run)) == [first, second]
    assert heard(world, run) == world.repository.runs.events(run.thread_id, run.id)
    call = next(item for item in items_of(world.answers.output(run)[0]) if item.call is not None)
    world.items.delete(run.thread_id, call.id)
    assert calls_in(heard(world, run)) == [second]
    assert texts_of(heard(world, run)) == ["Hm"]


def heard(world: AnswerWorld, run: Run) -> list[LogEvent]:
    """What a client hears of one that is over, as one that goes on where the runner ends takes it."""
    events: list[LogEvent] = []
    for change in world.answers.watch(run, Waiter(), LIMIT):
        if isinstance(change, RunSaid):
            events += change.events
        elif change is not None:
            run = change.run
    return [*events, *missing(run, events)]


def calls_in(events: Sequence[LogEvent]) -> list[str | None]:
    return [event.id for event in events if isinstance(event, ToolCallEvent)]


def test_waiting_ends_with_the_answer(world: AnswerWorld) -> None:
    run = world.create("hi")
    assert world.answers.finished(run, Waiter(), 1.0) == world.answers.get(run.id, RESPONSE)
