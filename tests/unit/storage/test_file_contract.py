"""What every store of uploaded files does."""

from __future__ import annotations

import hashlib
import itertools
import threading

import pytest

from janflask.errors import ConflictError, InvalidRequestError, NotFoundError, StoreBusyError
from janflask.files import ids
from janflask.storage.base import FileStore, Order, Page, Repository
from janflask.storage.records import StoredFile

ORDERS: tuple[Order, ...] = ("asc", "desc")
NOT_IDS = ["", "..", "../x", "a/b", "%2e%2e", "a\0b", "x" * 300, ".janflask"]


@pytest.fixture
def store(repository: Repository) -> FileStore:
    return repository.files


def upload(
    store: FileStore, content: bytes = b"hello", filename: str = "a.txt", purpose: str = "assistants"
) -> StoredFile:
    received = store.begin()
    received.write(content)
    return received.commit(filename, purpose)


def never_held(_: str) -> bool:
    return False


def test_what_was_sent_comes_back(store: FileStore) -> None:
    before = ids.now_ms()
    received = store.begin()
    pieces = [b"", b"one ", bytes(range(256)) * 4000, b"\n"]
    assert [received.write(piece) for piece in pieces] == [len(piece) for piece in pieces]
    stored = received.commit("../../Übersicht 1.pdf", "user_data")
    content = b"".join(pieces)
    assert stored == store.get(stored.id)
    assert (stored.filename, stored.purpose, stored.bytes) == ("../../Übersicht 1.pdf", "user_data", len(content))
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert stored.id.startswith(ids.FILE)
    assert stored.created_ms == ids.time_of(stored.id)
    assert before <= stored.created_ms <= ids.now_ms() + 1
    with store.open(stored.id) as opened:
        assert opened.read(3) == content[:3]
        assert opened.seek(-1, 2) == len(content) - 1
        assert opened.read() == b"\n"


def test_an_empty_file(store: FileStore) -> None:
    stored = store.begin().commit("empty", "assistants")
    assert stored.bytes == 0
    with store.open(stored.id) as opened:
        assert opened.read() == b""


def test_nobody_sees_an_upload_before_its_commit(store: FileStore) -> None:
    received = store.begin()
    received.write(b"x")
    assert list(store.list(Page()).items) == []
    stored = received.commit("x", "assistants")
    assert list(store.list(Page()).items) == [stored]


def test_an_upload_that_is_discarded(store: FileStore) -> None:
    received = store.begin()
    received.write(b"x")
    received.discard()
    received.discard()
    assert list(store.list(Page()).items) == []


def test_discarding_after_the_commit_is_harmless(store: FileStore) -> None:
    received = store.begin()
    received.write(b"x")
    stored = received.commit("x", "assistants")
    received.discard()
    assert store.get(stored.id) == stored


@pytest.mark.parametrize("commits", [True, False])
def test_an_upload_ends_once(store: FileStore, commits: bool) -> None:
    received = store.begin()
    if commits:
        received.commit("x", "assistants")
    else:
        received.discard()
    with pytest.raises(ValueError, match="ended"):
        received.write(b"more")
    with pytest.raises(ValueError, match="ended"):
        received.commit("x", "assistants")
    assert len(store.list(Page()).items) == int(commits)


def test_an_import_names_the_id_and_the_time(store: FileStore) -> None:
    received = store.begin()
    received.write(b"x")
    stored = received.commit("x", "assistants", file_id="theirs", created_ms=1_600_000_000_123)
    assert (stored.id, stored.created_ms) == ("theirs", 1_600_000_000_123)
    assert store.get("theirs") == stored
    old = store.begin().commit("y", "assistants", created_ms=1_500_000_000_000)
    assert (old.created_ms, ids.time_of(old.id)) == (1_500_000_000_000, 1_500_000_000_000)
    new = upload(store)
    assert [found.id for found in store.list(Page()).items] == [new.id, "theirs", old.id]


def test_an_id_that_is_taken(store: FileStore) -> None:
    first = upload(store, b"first")
    received = store.begin()
    received.write(b"second")
    with pytest.raises(ConflictError):
        received.commit("x", "assistants", file_id=first.id)
    assert store.get(first.id) == first
    with store.open(first.id) as opened:
        assert opened.read() == b"first"
    second = received.commit("x", "assistants", file_id="another")
    with store.open(second.id) as opened:
        assert opened.read() == b"second"


@pytest.mark.parametrize("text", [*NOT_IDS[1:], "con", "import", "nul.txt", "x."])
def test_what_must_not_be_called_so(store: FileStore, text: str) -> None:
    received = store.begin()
    with pytest.raises(InvalidRequestError):
        received.commit("x", "assistants", file_id=text)
    received.discard()
    assert list(store.list(Page()).items) == []


@pytest.mark.parametrize("text", ["nobody", *NOT_IDS])
def test_what_is_not_there(store: FileStore, text: str) -> None:
    upload(store)
    for action in (store.get, store.open, lambda name: store.delete(name, never_held)):
        with pytest.raises(NotFoundError):
            action(text)
    with pytest.raises(NotFoundError):
        with store.holding([text], "thread"):
            pass


def test_deleting(store: FileStore) -> None:
    stored = upload(store)
    with store.open(stored.id) as opened:
        store.delete(stored.id, never_held)
        assert opened.read() == b"hello"  # who reads it may finish
    for action in (store.get, store.open, lambda name: store.delete(name, never_held)):
        with pytest.raises(NotFoundError):
            action(stored.id)
    assert list(store.list(Page()).items) == []


def test_only_possible_holders_are_asked(store: FileStore) -> None:
    one, other = upload(store), upload(store)
    with store.holding([one.id, one.id], "t1"):
        pass
    with store.holding([one.id, other.id], "t2"):
        pass
    with store.holding([], "t3"):
        pass
    asked: list[str] = []
    store.delete(other.id, lambda thread_id: asked.append(thread_id) is not None)
    assert asked == ["t2"]
    asked.clear()
    store.delete(one.id, lambda thread_id: asked.append(thread_id) is not None)
    assert sorted(asked) == ["t1", "t2"]


def test_a_file_that_is_held_stays(store: FileStore) -> None:
    stored = upload(store)
    for thread_id in ("t1", "t2", "t3"):
        with store.holding([stored.id], thread_id):
            pass
    with pytest.raises(ConflictError, match="t2"):
        store.delete(stored.id, lambda thread_id: thread_id == "t2")
    assert store.get(stored.id) == stored
    store.delete(stored.id, never_held)


def test_nothing_is_deleted_while_it_is_being_held(store: FileStore) -> None:
    stored = upload(store)
    with store.holding([stored.id], "t1"), store.holding([stored.id], "t2"):
        with pytest.raises(StoreBusyError) as caught:
            store.delete(stored.id, never_held)
        assert caught.value.retry_after is not None
    assert store.get(stored.id) == stored
    store.delete(stored.id, never_held)


def test_an_error_while_holding_ends_it(store: FileStore) -> None:
    stored = upload(store)
    with pytest.raises(ZeroDivisionError):
        with store.holding([stored.id], "t1"):
            1 / 0  # noqa: B018
    store.delete(stored.id, never_held)


def test_deleting_waits_for_who_holds_it(store: FileStore) -> None:
    stored = upload(store)
    asked: list[str] = []
    deleting = threading.Thread(target=lambda: store.delete(stored.id, lambda name: asked.append(name) is not None))
    with store.holding([stored.id], "t1"):
        deleting.start()
        assert store.get(stored.id) == stored
        assert asked == []
    deleting.join()
    assert asked == ["t1"]
    with pytest.raises(NotFoundError):
        store.get(stored.id)


def test_holding_names_the_first_that_is_missing(store: FileStore) -> None:
    stored = upload(store)
    with pytest.raises(NotFoundError, match="zz-missing"):
        with store.holding([stored.id, "zz-missing", "aa-missing"], "t1"):
            pass
    store.delete(stored.id, never_held)  # nothing stays locked


@pytest.mark.parametrize("thread_id", NOT_IDS)
def test_a_holder_has_an_id(store: FileStore, thread_id: str) -> None:
    stored = upload(store)
    with pytest.raises(NotFoundError):
        with store.holding([stored.id], thread_id):
            pass


def test_two_that_hold_the_same_files_the_other_way_round(store: FileStore) -> None:
    one, other = upload(store).id, upload(store).id
    errors: list[Exception] = []

    def hold(file_ids: list[str], thread_id: str) -> None:
        try:
            for _ in range(30):
                with store.holding(file_ids, thread_id):
                    pass
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=hold, args=args) for args in (([one, other], "t1"), ([other, one], "t2"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_list_of_one_purpose(store: FileStore) -> None:
    made = [upload(store, purpose=purpose).id for purpose in ("a", "b", "a", "b", "a")]
    got = store.list(Page(limit=2), purpose="a")
    assert ([found.id for found in got.items], got.has_more) == ([made[4], made[2]], True)
    got = store.list(Page(limit=2, after=made[2]), purpose="a")
    assert ([found.id for found in got.items], got.has_more) == ([made[0]], False)
    assert list(store.list(Page(), purpose="c").items) == []


def test_pages(store: FileStore) -> None:
    made = [upload(store).id for _ in range(6)]
    gone = made[3]
    store.delete(gone, never_held)
    cursors = [None, *made]
    for after, before, order, limit in itertools.product(cursors, cursors, ORDERS, (None, 1, 2, 5)):
        listed = made if order == "asc" else made[::-1]
        start = 0 if after is None else listed.index(after) + 1
        stop = len(listed) if before is None else listed.index(before)
        between = [file_id for file_id in listed[start:stop] if file_id != gone]
        wanted = between
        if limit is not None and len(between) > limit:
            wanted = between[-limit:] if before is not None and after is None else between[:limit]
        got = store.list(Page(limit=limit, order=order, after=after, before=before))
        assert [found.id for found in got.items] == wanted
        assert got.has_more == (len(wanted) < len(between))


@pytest.mark.parametrize("param", ["after", "before"])
def test_a_cursor_that_is_not_in_the_list(store: FileStore, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        store.list(Page(**{param: "nobody"}))
    assert caught.value.param == param
