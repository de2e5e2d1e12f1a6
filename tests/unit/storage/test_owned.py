"""Whose a thing is: kept, listed by, given away, and hidden from others. Over both repositories."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from janflask.access.keys import Limits, new_key
from janflask.access.scopes import USUAL
from janflask.errors import ConflictError, InvalidRequestError, MissingScopeError, NotFoundError, StoreDamagedError
from janflask.files import ids
from janflask.settings import Settings
from janflask.storage import base, giving, message_log, open_repository
from janflask.storage.base import Page, Repository
from janflask.storage.owned import owned
from janflask.storage.records import Assistant, Message, Run, StoredFile, Thread

ALICE, BOB = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


@dataclass(frozen=True)
class Someone:
    """A viewer."""

    key_id: str | None
    sees_all: bool = False


def thread(number: int = 0) -> Thread:
    at_ms = 1_700_000_000_000 + number
    return Thread(id=ids.new_id(ids.THREAD, at_ms), created_ms=at_ms, updated_ms=at_ms, title="about mills")


def message(text: str = "Hi") -> Message:
    content = ({"type": "text", "text": {"value": text, "annotations": []}},)
    return Message(id=ids.new_id(ids.MESSAGE), thread_id="", created_ms=1, content=content)


def upload(repository: Repository, purpose: str = "assistants") -> StoredFile:
    received = repository.files.begin()
    received.write(b"x")
    return received.commit("a.txt", purpose)


def a_run(thread_id: str) -> Run:
    return Run(
        id=ids.new_id(ids.RUN),
        thread_id=thread_id,
        assistant_id="jan",
        message_id=ids.new_id(ids.MESSAGE),
        step_id=ids.new_id("step_"),
        created_ms=1,
        expires_ms=2,
        model="tiny",
    )


@dataclass
class Seen:
    """One repository, as three see it."""

    all: Repository
    alice: Repository
    bob: Repository
    boss: Repository
    stranger: Repository


@pytest.fixture
def seen(repository: Repository) -> Seen:
    viewers = (Someone(ALICE), Someone(BOB), Someone("cccccccccccc", True), Someone(None))
    return Seen(repository, *(owned(repository, lambda viewer=viewer: viewer) for viewer in viewers))  # type: ignore[misc]


# --- threads ----------------------------------------------------------------------------------------------------------


def test_what_is_made_is_its_makers_and_stays_so(seen: Seen) -> None:
    made = seen.alice.threads.create(replace(thread(), owner=BOB))
    assert (made.owner, seen.all.threads.owner(made.id)) == (ALICE, ALICE)
    seen.alice.threads.update(made.id, lambda found: replace(found, title="new", owner=BOB))
    assert seen.all.threads.get(made.id).owner == ALICE
    assert seen.boss.threads.create(thread()).owner == "cccccccccccc"
    for make in (
        lambda store: store.threads.create(thread()),
        lambda store: store.files.begin(),
        lambda store: store.assistants.create(Assistant(id="x", created_ms=1)),
    ):
        with pytest.raises(PermissionError):
            make(seen.stranger)


def test_lists_counts_and_searches_have_ones_own(seen: Seen) -> None:
    mine = [seen.alice.threads.create(thread(number)).id for number in range(0, 6, 2)][::-1]
    for number in range(1, 6, 2):
        seen.bob.threads.create(thread(number))
    seen.all.threads.create(thread(9))
    for owner in (ALICE, BOB):
        assert seen.all.threads.count(Page(owner=owner)) == 3
    threads = seen.alice.threads
    assert [found.id for found in threads.list(Page()).items] == mine
    assert [found.id for found in threads.list(Page(order="asc")).items] == mine[::-1]
    assert [found.id for found in threads.all()] == list(threads.ids(Page())) == mine
    assert [found.id for found in threads.search("mills", Page()).items] == mine
    first = threads.list(Page(limit=2))
    assert ([found.id for found in first.items], first.has_more) == (mine[:2], True)
    last = threads.list(Page(limit=2, after=mine[1]))
    assert ([found.id for found in last.items], last.has_more) == (mine[2:], False)
    assert [found.id for found in threads.list(Page(limit=1, before=mine[2])).items] == [mine[1]]
    assert (threads.count(), seen.boss.threads.count(), seen.stranger.threads.count()) == (3, 7, 0)
    for nothing in (seen.stranger.threads.list(Page()).items, list(seen.stranger.threads.all())):
        assert nothing == []


def test_a_cursor_tells_as_much_as_one_that_never_was(seen: Seen) -> None:
    seen.alice.threads.create(thread(1))
    theirs = seen.bob.threads.create(thread(2))
    named = seen.bob.threads.create(replace(thread(3), id="named"))
    assert len(seen.alice.threads.list(Page(after=theirs.id)).items) == 1
    for name in (named.id, "never-was"):
        with pytest.raises(Exception, match="is not in this list"):
            seen.alice.threads.list(Page(after=name))


def test_another_finds_nothing_and_the_same_as_of_nothing(seen: Seen) -> None:
    made = seen.alice.threads.create(thread(), [message()], [("a.txt", io.BytesIO(b"x"))])
    (message_id,) = seen.alice.threads.message_ids(made.id)
    run = a_run(made.id)
    assert seen.alice.runs.create(run)
    missing = ids.new_id(ids.THREAD)
    nothing: list[Callable[[Repository, str], Any]] = [
        lambda store, name: store.check(name),
        lambda store, name: store.threads.get(name),
        lambda store, name: store.threads.with_message_ids(name),
        lambda store, name: store.threads.owner(name),
        lambda store, name: store.threads.give(name, BOB),
        lambda store, name: store.threads.update(name, lambda found: found),
        lambda store, name: store.threads.delete(name),
        lambda store, name: store.threads.append(name, [message()]),
        lambda store, name: store.threads.message_ids(name),
        lambda store, name: store.threads.all_messages(name),
        lambda store, name: store.threads.list_messages(name, Page()),
        lambda store, name: store.threads.get_message(name, message_id),
        lambda store, name: store.threads.update_message(name, message_id, lambda found: found),
        lambda store, name: store.threads.delete_message(name, message_id),
        lambda store, name: store.threads.files(name),
        lambda store, name: store.threads.open_file(name, "a.txt"),
        lambda store, name: store.runs.create(a_run(name)),
        lambda store, name: store.runs.get(name, run.id),
        lambda store, name: store.runs.update(name, run.id, lambda found: found),
        lambda store, name: store.runs.list(name, Page()),
        lambda store, name: store.runs.ids(name),
        lambda store, name: store.runs.delete(name, run.id),
        lambda store, name: store.runs.idle(name),
        lambda store, name: store.runs.open_run(name),
        lambda store, name: store.runs.close(name, run.id, lambda found: found),
        lambda store, name: store.runs.event_log(name, run.id),
        lambda store, name: store.runs.events(name, run.id),
    ]
    lists = {"create", "list", "count", "ids", "all", "search"}  # and what is made: these know of no thread
    methods = [*(_methods("ThreadStore") - lists), *(_methods("RunStore") - {"all_open", "forget"})]
    assert len(nothing) == len(methods) + 1, "a new method: say what another is told; the first here is ``check``"
    for ask in nothing:
        for store in (seen.bob, seen.stranger):
            told = []
            for name in (made.id, missing):
                with pytest.raises(NotFoundError) as error:
                    ask(store, name)
                told.append((error.value.message.replace(name, "X"), error.value.param))
            assert told[0] == told[1]
    assert seen.alice.threads.get(made.id) == seen.all.threads.get(made.id) == seen.boss.threads.get(made.id)
    assert seen.all.threads.owner(made.id) == ALICE
    for store in (seen.all, seen.alice, seen.boss):
        assert list(store.threads.message_ids(made.id)) == [message_id]
        assert store.threads.with_message_ids(made.id) == (seen.all.threads.get(made.id), (message_id,))
    for left in (lambda: seen.alice.runs.all_open(), lambda: seen.alice.runs.forget(run.id)):
        with pytest.raises(PermissionError):
            left()


def _methods(protocol: str) -> set[str]:
    return {name for name, value in vars(getattr(base, protocol)).items() if callable(value) and name[0] != "_"}


def test_one_that_is_given_away_under_a_change_is_not_changed(seen: Seen) -> None:
    made = seen.alice.threads.create(thread())
    view = owned(seen.all, lambda: Someone(ALICE))
    store = view.threads._store  # type: ignore[attr-defined]

    class Quick:
        """Gives the thread away between the look at it and the change."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def update(self, thread_id: str, *given: Any) -> Thread:
            store.give(thread_id, BOB)
            found: Thread = store.update(thread_id, *given)
            return found

    view.threads._store = Quick()  # type: ignore[attr-defined]
    with pytest.raises(NotFoundError):
        view.threads.update(made.id, lambda found: replace(found, title="mine"))
    assert seen.all.threads.get(made.id).title == "about mills"


# --- files ------------------------------------------------------------------------------------------------------------


def test_files(seen: Seen) -> None:
    mine, theirs = upload(seen.alice), upload(seen.bob, "vision")
    nobodys = upload(seen.all)
    assert (mine.owner, theirs.owner, nobodys.owner) == (ALICE, BOB, None)
    for _ in range(2):
        assert [file.id for file in seen.alice.files.list(Page()).items] == [mine.id]
        assert seen.alice.files.list(Page(), purpose="vision").items == []
        assert len(seen.boss.files.list(Page()).items) == 3
        assert seen.stranger.files.list(Page()).items == []
    for name in (theirs.id, nobodys.id, ids.new_id(ids.FILE)):
        for ask in (
            lambda name: seen.alice.files.get(name),
            lambda name: seen.alice.files.open(name),
            lambda name: seen.alice.files.give(name, ALICE),
            lambda name: seen.alice.files.delete(name, lambda _: False),
            lambda name: seen.alice.files.holding([mine.id, name], "thread_x").__enter__(),
        ):
            with pytest.raises(NotFoundError) as error:
                ask(name)
            assert error.value.message == f"there is no file {name!r}"
    seen.all.files.give(theirs.id, ALICE)
    assert {file.id for file in seen.alice.files.list(Page()).items} == {mine.id, theirs.id}
    assert seen.bob.files.list(Page()).items == []
    with seen.alice.files.open(theirs.id) as content:
        assert content.read() == b"x"


def test_a_foreign_cursor_of_any_list_tells_as_much_as_one_that_never_was(seen: Seen) -> None:
    received = seen.bob.files.begin()
    received.write(b"x")
    received.commit("a.txt", "assistants", file_id="named")
    seen.bob.assistants.create(Assistant(id="named", created_ms=2))
    seen.alice.assistants.create(Assistant(id="mine", created_ms=1))
    for part in ("files", "assistants"):
        for name in ("named", "never-was"):
            with pytest.raises(InvalidRequestError, match="is not in this list"):
                getattr(seen.alice, part).list(Page(after=name))
        for store in (seen.bob, seen.boss, seen.all):
            assert getattr(store, part).list(Page(order="asc", before="named")).has_more is False


# --- assistants -------------------------------------------------------------------------------------------------------


def test_assistants(seen: Seen) -> None:
    made = [
        store.assistants.create(Assistant(id=name, created_ms=1_700_000_000_000 + number))
        for number, (name, store) in enumerate(
            (("mine", seen.alice), ("theirs", seen.bob), ("shared", seen.boss), ("old", seen.all)), 1
        )
    ]
    assert [assistant.owner for assistant in made] == [ALICE, BOB, None, None]
    listed = seen.alice.assistants.list(Page(order="asc"))
    assert sorted(assistant.id for assistant in listed.items) == ["jan", "mine", "old", "shared"]
    page = seen.alice.assistants.list(Page(order="asc", limit=2))
    assert ([assistant.id for assistant in page.items], page.has_more) == (["jan", "mine"], True)
    seen.alice.assistants.update("mine", lambda found: replace(found, name="Mine", owner=BOB))
    assert seen.all.assistants.get("mine").owner == ALICE
    for name in ("jan", "shared", "old"):
        assert seen.alice.assistants.get(name).owner is None
        for change in (
            lambda name: seen.alice.assistants.update(name, lambda found: found),
            lambda name: seen.alice.assistants.delete(name),
            lambda name: seen.alice.assistants.give(name, ALICE),
        ):
            with pytest.raises(MissingScopeError):
                change(name)
    for name in ("theirs", "none"):
        for ask in (
            lambda name: seen.alice.assistants.get(name),
            lambda name: seen.alice.assistants.update(name, lambda found: found),
            lambda name: seen.alice.assistants.delete(name),
        ):
            with pytest.raises(NotFoundError) as error:
                ask(name)
            assert error.value.message == f"there is no assistant {name!r}"
    seen.boss.assistants.update("theirs", lambda found: replace(found, name="T"))
    assert seen.all.assistants.get("theirs").owner == BOB


# --- giving -----------------------------------------------------------------------------------------------------------


def _all_of(store: Repository, owner: str | None) -> set[str]:
    things = giving.owned_by(store, owner) if owner is not None else giving.unowned(store)
    return {thing.id for thing in things if giving.give(store, thing, "zzzzzzzzzzzz", frozenset({owner}))}


def test_what_is_nobodys_is_given(seen: Seen) -> None:
    made, file = seen.all.threads.create(thread()), upload(seen.all)
    before = seen.all.threads.get(made.id)
    seen.all.assistants.create(Assistant(id="shared", created_ms=1))
    seen.alice.threads.create(thread(1))
    assert _all_of(seen.all, None) == {made.id, file.id}
    assert seen.all.threads.get(made.id) == replace(before, owner="zzzzzzzzzzzz"), "nothing else of it changes"
    assert seen.all.assistants.get("shared").owner is None
    assert _all_of(seen.all, None) == set()


def test_what_a_key_has_is_given(seen: Seen) -> None:
    things = {seen.alice.threads.create(thread()).id, upload(seen.alice).id}
    things |= {seen.alice.assistants.create(Assistant(id="mine", created_ms=1)).id}
    seen.bob.threads.create(thread(1))
    seen.all.assistants.create(Assistant(id="shared", created_ms=1))
    assert _all_of(seen.all, ALICE) == things
    assert seen.all.threads.count(Page(owner="zzzzzzzzzzzz")) == seen.bob.threads.count() == 1
    assert seen.alice.threads.list(Page()).items == []


def test_what_an_id_names(seen: Seen) -> None:
    made = seen.all.threads.create(thread())
    answer = ids.new_answer_id(ids.RESPONSE, made.id)
    for name in (made.id, ids.conversation_id(made.id), answer, f"thread/{made.id}"):
        assert giving.named(seen.all, name) == giving.Thing("thread", made.id)
    seen.all.threads.create(replace(thread(), id="both"))
    seen.all.assistants.create(Assistant(id="both", created_ms=1))
    with pytest.raises(Exception, match="thread/both, assistant/both"):
        giving.named(seen.all, "both")
    assert giving.give(seen.all, giving.named(seen.all, "assistant/both"), BOB)
    assert not giving.give(seen.all, giving.named(seen.all, "assistant/both"), BOB), "it is bob's already"
    assert seen.all.threads.owner("both") is None
    for name in ("nothing", "file/both", "model/both", ids.new_id(ids.THREAD)):
        with pytest.raises(NotFoundError):
            giving.named(seen.all, name)
    with pytest.raises(ConflictError):
        giving.give(seen.all, giving.named(seen.all, "jan"), BOB)


# --- files on disk that others write, too -----------------------------------------------------------------------------


def test_an_owner_that_another_program_took_out_is_gone(settings: Settings) -> None:
    store = open_repository(settings)
    alice = owned(store, lambda: Someone(ALICE))
    made = alice.threads.create(thread())
    assert alice.threads.count() == 1
    file = settings.threads_dir / made.id / "thread.json"
    raw = json.loads(file.read_text())
    assert raw.pop("owner") == ALICE
    file.write_text(json.dumps(raw))
    assert alice.threads.list(Page()).items == []
    assert alice.threads.count() == 0
    with pytest.raises(NotFoundError):
        alice.threads.get(made.id)
    assert [found.id for found in store.threads.list(Page()).items] == [made.id]


def test_other_processes_see_what_is_given(settings: Settings) -> None:
    one, other = open_repository(settings), open_repository(settings)
    made, file = one.threads.create(thread()), upload(one)
    bob = owned(other, lambda: Someone(BOB))
    assert (bob.threads.list(Page()).items, bob.files.list(Page()).items) == ([], [])
    for owner, number in ((BOB, 1), (ALICE, 0), (BOB, 1), (None, 0)):
        one.threads.give(made.id, owner)
        one.files.give(file.id, owner)
        assert len(bob.threads.list(Page()).items) == len(bob.files.list(Page()).items) == bob.threads.count() == number


def test_a_known_thread_costs_its_owner_no_more_questions(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_log, "RACY", -1)  # what was written just now is remembered
    store = open_repository(settings)
    alice = owned(store, lambda: Someone(ALICE))
    made = alice.threads.create(thread(), [message()])
    first = alice.threads.with_message_ids(made.id)
    asked: list[str] = []
    lstat, opened = os.lstat, os.open
    monkeypatch.setattr(os, "lstat", lambda path: asked.append(path) or lstat(path))  # type: ignore[func-returns-value]
    monkeypatch.setattr(os, "open", lambda *given, **more: asked.append(given[0]) or opened(*given, **more))  # type: ignore[func-returns-value]
    for view in (store, alice):
        assert view.threads.with_message_ids(made.id) == first
        folder = settings.threads_dir / made.id
        assert asked == [str(folder / "thread.json"), str(folder / "messages.jsonl")]
        asked.clear()
    store.threads.append(made.id, [message()])
    assert alice.threads.with_message_ids(made.id) == (store.threads.get(made.id), store.threads.message_ids(made.id))
    store.threads.give(made.id, BOB)
    with pytest.raises(NotFoundError):
        alice.threads.with_message_ids(made.id)


def test_a_thread_that_takes_anothers_place_tells_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_repository(settings)
    alice, bob = (owned(store, lambda key=key: Someone(key)) for key in (ALICE, BOB))  # type: ignore[misc]
    made = alice.threads.create(replace(thread(), id="same"), [message()])
    read = store.threads._read  # type: ignore[attr-defined]

    def replaced_behind(*given: Any) -> Any:
        monkeypatch.setattr(store.threads, "_read", read)
        found = read(*given)
        store.threads.delete("same")
        bob.threads.create(replace(thread(), id="same"), [message()])
        return found

    monkeypatch.setattr(store.threads, "_read", replaced_behind)
    assert alice.threads.with_message_ids("same") == (made, ()), "its files are removed already"
    assert len(list(bob.threads.all_messages("same"))) == 1


@pytest.mark.parametrize("owner", [1, {}, [], True, "", "../x", "me", "x" * 13, "A" * 12, None])
def test_an_owner_that_is_no_keys_id_is_nobody(settings: Settings, owner: Any) -> None:
    store = open_repository(settings)
    made = store.threads.create(thread())
    file = settings.threads_dir / made.id / "thread.json"
    raw = {**json.loads(file.read_text()), "owner": owner}
    file.write_text(json.dumps(raw))
    assert (store.threads.get(made.id).owner, store.threads.owner(made.id)) == (None, None)
    assert store.threads.update(made.id, lambda found: replace(found, title="new")).owner is None
    assert json.loads(file.read_text()).get("owner") == (owner or None), "another program's own word is kept"
    store.threads.give(made.id, ALICE)
    assert store.threads.get(made.id).owner == ALICE


def test_a_keys_id_is_read_as_one(settings: Settings) -> None:
    store = open_repository(settings)
    for _ in range(20):
        key = new_key("a", USUAL, Limits(), 1)[0]
        assert owned(store, lambda key=key: Someone(key.id)).threads.create(thread()).owner == key.id  # type: ignore[misc]


def test_one_that_cannot_be_read_is_nobodys(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    store = open_repository(settings)
    alice = owned(store, lambda: Someone(ALICE))
    made, file = alice.threads.create(thread()), upload(alice)
    alice.assistants.create(Assistant(id="mine", created_ms=1))
    for path in (f"threads/{made.id}/thread.json", f"files/{file.id}/file.json", "assistants/mine/assistant.json"):
        (settings.data_dir / path).write_text("{")
    for ask in (
        lambda: alice.threads.get(made.id),
        lambda: alice.threads.message_ids(made.id),
        lambda: alice.files.get(file.id),
        lambda: alice.assistants.get("mine"),
    ):
        with pytest.raises(NotFoundError):
            ask()
    assert alice.threads.list(Page()).items == []
    assert f"thread {made.id} is left out of lists" in caplog.text
    with pytest.raises(StoreDamagedError):
        store.threads.get(made.id)
