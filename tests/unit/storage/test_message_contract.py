"""What every store of threads does with their messages."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from janflask.errors import ConflictError, InvalidRequestError, NotFoundError
from janflask.files import ids
from janflask.storage.base import Order, Page, Repository, ThreadStore
from janflask.storage.records import Message, Thread
from tests.unit.storage.broken import Broken

ORDERS: tuple[Order, ...] = ("asc", "desc")
T0 = 1_700_000_000_000
NOBODY = ["nobody", "", "..", "../x", "a/b", "a\0b", "x" * 1000, "\ud800"]

FULL = Message(
    id="01HZPKMAT2GANGVWPM4W78SW41",
    thread_id="t",
    created_ms=T0 + 1,
    role="assistant",
    content=(
        {"type": "text", "text": {"value": "Grüße 🚂\n\u2028\x00\x1f", "annotations": [{"type": "file_citation"}]}},
        {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}},
    ),
    file_ids=("file-2",),
    attachments=({"file_id": "file-3", "tools": [{"type": "file_search"}]},),
    assistant_id="jan",
    run_id="run_1",
    status="incomplete",
    incomplete_details={"reason": "max_tokens"},
    completed_ms=None,
    incomplete_ms=T0 + 2,
    metadata={"deep": {"list": [1, None, "x", 2.5, True]}},
    extra={"theirs": {"kept": [1, 2]}},
)


@pytest.fixture
def store(repository: Repository) -> ThreadStore:
    repository.threads.create(Thread(id="t", created_ms=T0, updated_ms=T0))
    return repository.threads


def message(text: str, message_id: str | None = None, run_id: str | None = None) -> Message:
    content = {"type": "text", "text": {"value": text, "annotations": []}}
    return Message(
        id=message_id or ids.new_id(ids.MESSAGE),
        thread_id="t",
        created_ms=ids.now_ms(),
        content=(content,),
        run_id=run_id,
    )


def texts(store: ThreadStore) -> list[str]:
    return [found.text for found in store.all_messages("t")]


def test_everything_comes_back(store: ThreadStore) -> None:
    store.append("t", [FULL])
    assert store.get_message("t", FULL.id) == FULL
    assert list(store.all_messages("t")) == [FULL]
    assert list(store.list_messages("t", Page()).items) == [FULL]
    assert list(store.message_ids("t")) == [FULL.id]


@pytest.mark.parametrize(
    "change",
    [
        {"status": "completed", "incomplete_details": None, "incomplete_ms": None, "completed_ms": T0 + 9},
        {"status": "in_progress", "incomplete_details": None, "incomplete_ms": None},
        {"status": "incomplete", "incomplete_details": {"reason": "error"}},
        {"status": "incomplete", "incomplete_details": {"reason": "content_filter", "more": [1]}},
        {"content": (), "role": "user", "file_ids": (), "attachments": (), "assistant_id": None, "run_id": None},
    ],
)
def test_every_status_comes_back(store: ThreadStore, change: dict[str, Any]) -> None:
    wanted = replace(FULL, **change)
    store.append("t", [wanted])
    assert store.get_message("t", FULL.id) == wanted


def test_a_message_belongs_to_the_thread_it_is_put_in(store: ThreadStore) -> None:
    store.append("t", [replace(FULL, thread_id="elsewhere")])
    assert store.get_message("t", FULL.id).thread_id == "t"


def test_messages_keep_the_order_of_their_arrival(store: ThreadStore) -> None:
    times = [5, 1, 3, 2, 4]
    made = [replace(message(str(number)), created_ms=T0 + number) for number in times]
    store.append("t", made[:2])
    store.append("t", [])
    store.append("t", made[2:])
    assert texts(store) == ["5", "1", "3", "2", "4"]
    assert list(store.message_ids("t")) == [item.id for item in made]
    assert [item.text for item in store.list_messages("t", Page()).items] == ["4", "2", "3", "1", "5"]


def test_an_append_is_all_or_nothing(store: ThreadStore) -> None:
    store.append("t", [message("kept")])
    with pytest.raises(ZeroDivisionError):
        store.append("t", Broken(message("first")))
    assert texts(store) == ["kept"]
    store.append("t", [message("next")])
    assert texts(store) == ["kept", "next"]


def test_all_messages_are_as_they_were(store: ThreadStore) -> None:
    made = [message("one"), message("two")]
    store.append("t", made)
    found = store.all_messages("t")
    store.append("t", [message("three")])
    store.delete_message("t", made[0].id)
    store.update_message("t", made[1].id, lambda item: replace(item, metadata={"new": True}))
    assert list(found) == made


def test_all_messages_of_a_thread_that_goes(store: ThreadStore) -> None:
    store.append("t", [message("one"), message("two")])
    found = store.all_messages("t")
    store.delete("t")
    assert [item.text for item in found] == ["one", "two"]


@pytest.mark.parametrize("message_id", NOBODY)
def test_a_message_that_is_not_there(store: ThreadStore, message_id: str) -> None:
    store.append("t", [message("one")])
    for action in (
        lambda: store.get_message("t", message_id),
        lambda: store.update_message("t", message_id, lambda found: found),
        lambda: store.delete_message("t", message_id),
    ):
        with pytest.raises(NotFoundError):
            action()
    assert texts(store) == ["one"]


def test_a_message_of_another_thread(store: ThreadStore) -> None:
    store.create(Thread(id="other", created_ms=T0, updated_ms=T0))
    mine = message("mine")
    store.append("t", [mine])
    with pytest.raises(NotFoundError):
        store.get_message("other", mine.id)
    with pytest.raises(NotFoundError):
        store.delete_message("other", mine.id)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_changed_message_keeps_its_place(store: ThreadStore, place: int) -> None:
    made = [replace(FULL, id=f"m{number}") for number in range(3)]
    store.append("t", made)
    changed = store.update_message("t", f"m{place}", lambda found: replace(found, metadata={"n": 1}, role="user"))
    assert changed == replace(made[place], metadata={"n": 1}, role="user")
    made[place] = changed
    assert list(store.all_messages("t")) == made
    store.append("t", [message("next")])
    assert list(store.message_ids("t"))[:3] == ["m0", "m1", "m2"]


def test_the_id_stays(store: ThreadStore) -> None:
    store.append("t", [FULL])
    changed = store.update_message(
        "t", FULL.id, lambda found: replace(found, id="other", thread_id="other", role="user")
    )
    assert (changed.id, changed.thread_id, changed.role) == (FULL.id, "t", "user")
    assert list(store.message_ids("t")) == [FULL.id]


def test_a_change_that_raises_changes_nothing(store: ThreadStore) -> None:
    store.append("t", [FULL])

    def change(found: Message) -> Message:
        found.metadata["deep"]["list"].append("spoilt")
        raise InvalidRequestError("no")

    with pytest.raises(InvalidRequestError, match="no"):
        store.update_message("t", FULL.id, change)
    assert store.get_message("t", FULL.id) == FULL


@pytest.mark.parametrize("place", [0, 1, 2])
def test_deleting_a_message(store: ThreadStore, place: int) -> None:
    made = [message(str(number)) for number in range(3)]
    store.append("t", made)
    gone = made.pop(place)
    store.delete_message("t", gone.id)
    assert list(store.all_messages("t")) == made
    with pytest.raises(NotFoundError):
        store.get_message("t", gone.id)
    with pytest.raises(NotFoundError):
        store.delete_message("t", gone.id)
    for item in made:
        store.delete_message("t", item.id)
    assert texts(store) == []
    store.append("t", [message("again")])
    assert texts(store) == ["again"]


def test_nobody_sees_what_a_caller_does_with_his_copy(store: ThreadStore) -> None:
    mine = {"a": {"b": 1}}
    store.append("t", [replace(FULL, metadata=mine)])
    mine["a"]["b"] = 2
    store.get_message("t", FULL.id).metadata["a"]["b"] = 3
    assert store.get_message("t", FULL.id).metadata == {"a": {"b": 1}}


def test_an_empty_thread(store: ThreadStore) -> None:
    got = store.list_messages("t", Page())
    assert (list(got.items), got.has_more) == ([], False)
    assert list(store.message_ids("t")) == []
    assert texts(store) == []


def test_a_large_message(store: ThreadStore) -> None:
    """Larger than any block that a file is read in."""
    large = message("wörd " * 300_000)
    store.append("t", [message("before"), large, message("after")])
    assert store.get_message("t", large.id) == large
    assert [len(item.text) for item in store.list_messages("t", Page(limit=2)).items] == [5, 1_500_000]
    assert [len(text) for text in texts(store)] == [6, 1_500_000, 5]


def expected(made: Sequence[Message], gone: set[str], page: Page) -> tuple[list[str], bool]:
    """The page, where every id was in the order of its time."""
    order = [item.id for item in made]
    names = order if page.order == "asc" else order[::-1]
    start = 0 if page.after is None else names.index(page.after) + 1
    stop = len(names) if page.before is None else names.index(page.before)
    between = [name for name in names[start:stop] if name not in gone]
    if page.limit is None or len(between) <= page.limit:
        return between, False
    return between[-page.limit :] if page.before is not None and page.after is None else between[: page.limit], True


def test_pages(store: ThreadStore) -> None:
    """Every combination, one of our own ids gone, one foreign id among ours."""
    made = [message(str(number)) for number in range(6)]
    made[2] = replace(made[2], id="foreign")
    store.append("t", made)
    gone = made[4].id
    store.delete_message("t", gone)
    cursors = [None, *(item.id for item in made)]
    for after, before, order, limit in itertools.product(cursors, cursors, ORDERS, (None, 1, 2, 5)):
        page = Page(limit=limit, order=order, after=after, before=before)
        got = store.list_messages("t", page)
        assert ([item.id for item in got.items], got.has_more) == expected(made, {gone}, page), page


@pytest.mark.parametrize("filled", [True, False])
def test_a_cursor_whose_message_is_gone(store: ThreadStore, filled: bool) -> None:
    gone = message("gone")
    kept = [message("one"), message("two")] if filled else []
    store.append("t", [gone, *kept])
    store.delete_message("t", gone.id)
    names = [item.id for item in kept]
    assert [item.id for item in store.list_messages("t", Page(order="asc", after=gone.id)).items] == names
    assert [item.id for item in store.list_messages("t", Page(order="desc", before=gone.id)).items] == names[::-1]
    assert list(store.list_messages("t", Page(order="asc", before=gone.id)).items) == []


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize("param", ["after", "before"])
@pytest.mark.parametrize("cursor", NOBODY)
def test_a_cursor_that_is_not_in_the_list(store: ThreadStore, filled: bool, param: str, cursor: str) -> None:
    if filled:
        store.append("t", [message("one")])
    with pytest.raises(InvalidRequestError) as caught:
        store.list_messages("t", Page(**{param: cursor}))  # type: ignore[arg-type]
    assert caught.value.param == param


def test_messages_of_one_run(store: ThreadStore) -> None:
    made = [message(str(number), run_id=("run_1", "run_2", None)[number % 3]) for number in range(9)]
    store.append("t", made)
    got = store.list_messages("t", Page(limit=2), run_id="run_1")
    assert ([item.text for item in got.items], got.has_more) == (["6", "3"], True)
    got = store.list_messages("t", Page(limit=2, after=made[3].id), run_id="run_1")
    assert ([item.text for item in got.items], got.has_more) == (["0"], False)
    got = store.list_messages("t", Page(limit=1, order="asc", before=made[8].id), run_id="run_2")
    assert ([item.text for item in got.items], got.has_more) == (["7"], True)
    assert list(store.list_messages("t", Page(), run_id="nobody").items) == []


def test_writers_at_once(store: ThreadStore) -> None:
    """None lost, none doubled, each writer's in their order."""
    writers, each = 4, 25

    def write(writer: int) -> None:
        for number in range(each):
            store.append("t", [message(f"{writer} {number}")])

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = texts(store)
    assert len(found) == writers * each
    for writer in range(writers):
        assert [text for text in found if text.startswith(f"{writer} ")] == [f"{writer} {n}" for n in range(each)]


def test_a_change_runs_alone(store: ThreadStore) -> None:
    store.append("t", [replace(FULL, metadata={"count": 0})])

    def count() -> None:
        for _ in range(25):
            store.update_message(
                "t", FULL.id, lambda item: replace(item, metadata={"count": item.metadata["count"] + 1})
            )

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get_message("t", FULL.id).metadata == {"count": 75}


@pytest.mark.parametrize("batch", [["dup"], ["new", "dup"], ["new", "new"]])
def test_an_id_that_is_taken(store: ThreadStore, batch: list[str]) -> None:
    store.append("t", [message("first", "dup")])
    with pytest.raises(ConflictError):
        store.append("t", [message("second", name) for name in batch])
    assert texts(store) == ["first"]
