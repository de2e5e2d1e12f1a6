"""What every store of threads does; their messages have a suite of their own."""

from __future__ import annotations

import io
import itertools
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest

from janflask.errors import ConflictError, InvalidRequestError, NotFoundError
from janflask.files import ids
from janflask.storage.base import Order, Page, Repository, ThreadStore
from janflask.storage.records import Message, Thread, ThreadAssistant, ThreadFile
from tests.unit.storage.broken import Broken

ORDERS: tuple[Order, ...] = ("asc", "desc")
NOT_IDS = ["", ".", "..", "../x", "a/b", "%2e%2e", "a\0b", "x" * 300, ".janflask", "a b", "é"]
T0 = 1_700_000_000_000

FULL = Thread(
    id="jan_1717666232",
    created_ms=T0 + 123,
    updated_ms=T0 + 456,
    title="Über Züge 🚂",
    summary="trains",
    assistants=(
        ThreadAssistant(
            assistant_id="jan",
            assistant_name="Jan",
            instructions="Be brief.",
            model={"id": "tiny", "settings": {"ctx_len": 2048}, "parameters": {"stop": ["</s>"]}, "engine": "nitro"},
            extra={"tools": [{"type": "retrieval"}]},
        ),
        ThreadAssistant(assistant_id="other"),
    ),
    metadata={"deep": {"list": [1, None, "x", 2.5, True]}},
    model_id="tiny",
    settings={"ctx_len": 4096},
    parameters={"temperature": 0.5, "stop": []},
    tool_resources={"file_search": {"vector_store_ids": ["a"]}},
    extra={"isFinishInit": True, "theirs": {"kept": [1, 2]}},
)


@pytest.fixture
def store(repository: Repository) -> ThreadStore:
    return repository.threads


def thread(thread_id: str | None = None, created_ms: int = T0, title: str = "") -> Thread:
    return Thread(
        id=thread_id or ids.new_id(ids.THREAD, created_ms), created_ms=created_ms, updated_ms=created_ms, title=title
    )


def message(text: str, created_ms: int = T0) -> Message:
    content = {"type": "text", "text": {"value": text, "annotations": []}}
    return Message(id=ids.new_id(ids.MESSAGE), thread_id="", created_ms=created_ms, content=(content,))


def texts(store: ThreadStore, thread_id: str) -> list[str]:
    return [found.text for found in store.all_messages(thread_id)]


def listed(store: ThreadStore) -> list[str]:
    return [found.id for found in store.list(Page(limit=None)).items]


def every_action(store: ThreadStore) -> list[Callable[[str], object]]:
    return [
        store.get,
        store.with_message_ids,
        store.delete,
        lambda name: store.update(name, lambda found: found),
        lambda name: store.append(name, [message("x")]),
        store.message_ids,
        lambda name: list(store.all_messages(name)),
        lambda name: store.list_messages(name, Page()),
        lambda name: store.get_message(name, "m"),
        lambda name: store.update_message(name, "m", lambda found: found),
        lambda name: store.delete_message(name, "m"),
        store.files,
        lambda name: store.open_file(name, "f"),
    ]


# --- one thread -------------------------------------------------------------------------------------------------------


def test_everything_comes_back(store: ThreadStore) -> None:
    assert store.create(FULL) == FULL
    assert store.get(FULL.id) == FULL
    assert list(store.list(Page()).items) == [FULL]
    assert list(store.all()) == [FULL]


def test_a_thread_with_messages_and_files(store: ThreadStore) -> None:
    files = [("notes.txt", io.BytesIO(b"notes")), ("empty", io.BytesIO(b""))]
    store.create(thread("t"), [message("one"), message("two")], files)
    assert texts(store, "t") == ["one", "two"]
    assert list(store.files("t")) == [ThreadFile("empty", 0), ThreadFile("notes.txt", 5)]
    with store.open_file("t", "notes.txt") as opened:
        assert opened.read() == b"notes"


def test_what_is_not_there(store: ThreadStore) -> None:
    store.create(thread("t"))
    for action in every_action(store):
        with pytest.raises(NotFoundError):
            action("nobody")
    assert listed(store) == ["t"]


@pytest.mark.parametrize("text", NOT_IDS)
def test_what_is_no_id(store: ThreadStore, text: str) -> None:
    store.create(thread("t"))
    for action in every_action(store):
        with pytest.raises(NotFoundError):
            action(text)


@pytest.mark.parametrize("text", [*NOT_IDS, "con", "export", "Import", "nul.txt", "x."])
def test_what_must_not_be_called_so(store: ThreadStore, text: str) -> None:
    with pytest.raises(InvalidRequestError):
        store.create(replace(thread(), id=text))
    assert listed(store) == []
    assert store.count() == 0


def test_an_id_that_is_taken(store: ThreadStore) -> None:
    store.create(thread("t", title="first"), [message("kept")])
    with pytest.raises(ConflictError):
        store.create(thread("t", created_ms=T0 + 5, title="second"))
    assert store.get("t").title == "first"
    assert texts(store, "t") == ["kept"]
    assert store.count() == 1


def test_a_thread_that_fails_half_way_is_not_there(store: ThreadStore) -> None:
    with pytest.raises(ZeroDivisionError):
        store.create(thread("t"), Broken(message("first")))

    class Unreadable(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.create(thread("t"), [], [("good", io.BytesIO(b"x")), ("bad", Unreadable())])
    assert listed(store) == []
    with pytest.raises(NotFoundError):
        store.get("t")
    store.create(thread("t"))


def test_a_change(store: ThreadStore) -> None:
    store.create(FULL, [message("kept")])
    before = ids.now_ms()
    changed = store.update(FULL.id, lambda found: replace(found, title="New", metadata={}, model_id=None))
    assert before <= changed.updated_ms <= ids.now_ms()
    assert changed == replace(FULL, title="New", metadata={}, model_id=None, updated_ms=changed.updated_ms)
    assert store.get(FULL.id) == changed
    assert texts(store, FULL.id) == ["kept"]


def test_the_id_stays(store: ThreadStore) -> None:
    store.create(thread("t"))
    assert store.update("t", lambda found: replace(found, id="other", title="N")).id == "t"
    assert store.get("t").title == "N"
    assert listed(store) == ["t"]


def test_a_change_with_messages_replaces_them_all(store: ThreadStore) -> None:
    store.create(thread("t"), [message("one"), message("two")])
    new = [message("three"), message("four"), message("five")]
    store.update("t", lambda found: replace(found, title="N"), lambda _: new)
    assert texts(store, "t") == ["three", "four", "five"]
    assert list(store.message_ids("t")) == [item.id for item in new]
    assert store.get("t").title == "N"
    store.update("t", lambda found: found, lambda _: [])
    assert texts(store, "t") == []


def test_a_change_that_raises_changes_nothing(store: ThreadStore) -> None:
    store.create(FULL, [message("kept")])

    def change(found: Thread) -> Thread:
        raise InvalidRequestError("no")

    with pytest.raises(InvalidRequestError, match="no"):
        store.update(FULL.id, change, lambda _: [message("new")])
    with pytest.raises(ZeroDivisionError):
        store.update(FULL.id, lambda found: replace(found, title="new"), lambda _: Broken(message("first")))
    assert store.get(FULL.id) == FULL
    assert texts(store, FULL.id) == ["kept"]


def test_nobody_sees_what_a_caller_does_with_his_copy(store: ThreadStore) -> None:
    mine = {"a": {"b": 1}}
    store.create(replace(thread("t"), metadata=mine))
    mine["a"]["b"] = 2
    assert store.get("t").metadata == {"a": {"b": 1}}


def test_what_a_failed_change_did_to_a_nested_dict_is_not_seen(store: ThreadStore) -> None:
    store.create(replace(thread("t"), metadata={"a": {"b": 1}}))

    def change(found: Thread) -> Thread:
        found.metadata["a"]["b"] = 2
        raise InvalidRequestError("no")

    with pytest.raises(InvalidRequestError):
        store.update("t", change)
    assert store.get("t").metadata == {"a": {"b": 1}}


def test_updated_follows_the_last_message(store: ThreadStore) -> None:
    created = store.create(thread("t"))
    assert created.updated_ms == T0
    store.append("t", [message("x", created_ms=T0 + 5_000)])
    assert store.get("t").updated_ms >= T0 + 5_000
    assert store.list(Page()).items[0].updated_ms >= T0 + 5_000
    assert store.update("t", lambda found: found).updated_ms > T0 + 5_000


def test_deleting(store: ThreadStore) -> None:
    store.create(thread("t"), [message("x")], [("f", io.BytesIO(b"x"))])
    store.create(thread("other"))
    store.delete("t")
    for action in every_action(store):
        with pytest.raises(NotFoundError):
            action("t")
    assert listed(store) == ["other"]
    assert store.count() == 1
    store.create(thread("t", title="again"))
    assert texts(store, "t") == []
    assert list(store.files("t")) == []


# --- lists ------------------------------------------------------------------------------------------------------------


def test_pages(store: ThreadStore) -> None:
    """Every combination, over ids of our own and others', with one of our own that is gone."""
    made = [thread(None, T0 + number) for number in range(4)]
    made += [thread("jan_2", T0 + 10), thread("jan_1", T0 + 11), thread("jan_0", T0 + 11), thread("jan_3", T0 + 1)]
    for item in sorted(made, key=lambda item: item.id[::-1]):
        store.create(item)
    places = {item.id: (item.created_ms, item.id) for item in made}
    gone = made[2].id
    store.delete(gone)
    ascending = sorted((place for name, place in places.items() if name != gone))
    cursors = [None, *places]
    for after, before, order, limit in itertools.product(cursors, cursors, ORDERS, (None, 1, 3, 7)):
        low, high = (after, before) if order == "asc" else (before, after)
        between = [
            place[1]
            for place in (ascending if order == "asc" else ascending[::-1])
            if (low is None or places[low] < place) and (high is None or place < places[high])
        ]
        wanted = between
        if limit is not None and len(between) > limit:
            wanted = between[-limit:] if before is not None and after is None else between[:limit]
        page = Page(limit=limit, order=order, after=after, before=before)
        got = store.list(page)
        assert [item.id for item in got.items] == wanted, page
        assert got.has_more == (len(wanted) < len(between)), page


@pytest.mark.parametrize("param", ["after", "before"])
@pytest.mark.parametrize("cursor", ["nobody", "", "../x", "x" * 1000])
@pytest.mark.parametrize("name", ["list", "search"])
def test_a_cursor_that_is_not_in_the_list(store: ThreadStore, param: str, cursor: str, name: str) -> None:
    store.create(thread("t", title="word"))
    page = Page(**{param: cursor})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError) as caught:
        store.list(page) if name == "list" else store.search("word", page)
    assert caught.value.param == param


def test_walking_through_all_pages_both_ways(store: ThreadStore) -> None:
    made = [store.create(thread(None, T0 + number)).id for number in range(10)]
    seen: list[str] = []
    page = Page(limit=3)
    while True:
        got = store.list(page)
        seen += [item.id for item in got.items]
        if not got.has_more:
            break
        page = Page(limit=3, after=got.items[-1].id)
    assert seen == made[::-1]
    back: list[str] = []
    page = Page(limit=3, before=made[0])
    while True:
        got = store.list(page)
        back = [item.id for item in got.items] + back
        if not got.has_more:
            break
        page = Page(limit=3, before=got.items[0].id)
    assert back == made[:0:-1]


def test_all_threads_newest_first(store: ThreadStore) -> None:
    made = [store.create(thread(None, T0 + number)).id for number in range(30)]
    found = store.all()
    assert isinstance(found, Iterator)
    assert [item.id for item in found] == made[::-1]
    assert store.count() == 30


def test_threads_that_go_while_all_are_read(store: ThreadStore) -> None:
    made = [store.create(thread(None, T0 + number)).id for number in range(5)]
    found = store.all()
    assert next(found).id == made[4]
    store.delete(made[2])
    rest = [item.id for item in found]
    assert [name for name in rest if name != made[2]] == [made[3], made[1], made[0]]


def test_an_empty_store(store: ThreadStore) -> None:
    assert store.count() == 0
    assert list(store.all()) == []
    assert list(store.list(Page()).items) == []
    assert store.list(Page()).has_more is False
    assert list(store.search("x", Page()).items) == []


# --- search -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def library(store: ThreadStore) -> ThreadStore:
    store.create(thread("t0", T0, "Trains in the ALPS"))
    store.create(
        thread("t1", T0 + 1, "Nothing"), [message("the train was late"), message('a "quoted" back\\slash\nline')]
    )
    store.create(thread("t2", T0 + 2, "Straße nach Süden"), [message("ÄPFEL und Öl"), message("日本語のテキスト")])
    store.create(thread("t3", T0 + 3, "Split"), [message("alpha"), message("beta")])
    store.create(thread("t4", T0 + 4, "gamma"), [message("die STRASSE"), message("Große Straße 🚂 naïve café")])
    return store


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("train", ["t1", "t0"]),
        ("TRAIN", ["t1", "t0"]),
        ("alps trains", ["t0"]),
        ("  late \t train ", ["t1"]),
        ("late alps", []),
        ("alpha", ["t3"]),
        ("alpha beta", ["t3"]),  # in two messages
        ("split alpha", ["t3"]),  # in the title and in a message
        ("split alphabeta", []),
        ("split gamma", []),  # in two threads
        ("strasse", ["t4", "t2"]),
        ("straße", ["t4", "t2"]),
        ("STRASSE GROSSE", ["t4"]),
        ("äpfel öl", ["t2"]),
        ("ÄPFEL", ["t2"]),
        ("日本語", ["t2"]),
        ("🚂", ["t4"]),
        ("NAÏVE", ["t4"]),
        ('"quoted"', ["t1"]),
        ("back\\slash", ["t1"]),
        ("line", ["t1"]),
        ("nline", []),  # the escape in the file is no text
        ("annotations", []),  # and neither are its fields
        ("t1", []),
        (".*", []),
        ("%", []),
    ],
)
def test_search(library: ThreadStore, query: str, found: list[str]) -> None:
    assert [item.id for item in library.search(query, Page()).items] == found


def test_a_word_in_another_case_that_is_longer(store: ThreadStore) -> None:
    """The Kelvin sign and the long s are k and s, case apart, although no byte of theirs says so."""
    store.create(thread("t"), [message("5 \u212aelvin, Wach\u017ftube, mu\u1e9ete, \ufb01ne")])
    for word in ("kelvin", "wachstube", "fine", "KELVIN", "musste"):
        assert [item.id for item in store.search(word, Page()).items] == ["t"], word


# Each as it may be stored and as it may be asked for: apart (macOS) and together (keyboards).
FORMS = ["Süden", "naïve", "Ångström", "Việt", "한국어", "ガラス", "ἀλήθεια", "ΐ", "q̣̇", "İstanbul", "straße"]


@pytest.mark.parametrize("word", FORMS)
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
def test_search_in_either_normal_form(
    store: ThreadStore, word: str, stored: Literal["NFC", "NFD"], asked: Literal["NFC", "NFD"]
) -> None:
    kept = unicodedata.normalize(stored, f"xx {word} xx")
    store.create(thread("title", T0, kept))
    store.create(thread("text", T0 + 1), [message("hello"), message(kept)])
    for query in (word, word.upper(), word.casefold()):
        found = store.search(unicodedata.normalize(asked, query), Page()).items
        assert [item.id for item in found] == ["text", "title"], query


def test_a_letter_is_not_found_in_one_with_an_accent(store: ThreadStore) -> None:
    for number, form in enumerate(("NFC", "NFD")):
        store.create(thread(f"t{number}", T0 + number), [message(unicodedata.normalize(form, "café"))])
    assert [len(store.search(word, Page()).items) for word in ("cafe", "caf", "café")] == [0, 2, 2]


def test_search_in_several_text_parts(store: ThreadStore) -> None:
    parts = tuple({"type": "text", "text": {"value": text, "annotations": []}} for text in ("alpha", "beta"))
    store.create(
        thread("t"), [replace(message(""), content=(*parts, {"type": "image_url", "image_url": {"url": "gamma"}}))]
    )
    assert len(store.search("alpha beta", Page()).items) == 1
    assert len(store.search("gamma", Page()).items) == 0


def test_search_in_the_words_of_a_picture_or_document(store: ThreadStore) -> None:
    """Jan 0.4 and 0.5 kept them inside its part; the place of the file is no word."""
    held = {"value": "alpha", "annotations": ["threads/t/files/gamma.pdf"], "name": "delta.pdf", "size": 1}
    parts = ({"type": "pdf", "text": held}, {"type": "image", "text": {"value": "beta", "annotations": ["gamma"]}})
    store.create(thread("t"), [replace(message(""), content=(*parts, {"type": "refusal", "refusal": "epsilon"}))])
    for query, found in (("alpha", 1), ("beta", 1), ("epsilon", 1), ("gamma", 0), ("delta", 0)):
        assert len(store.search(query, Page()).items) == found, query


def test_pages_of_a_search(library: ThreadStore) -> None:
    got = library.search("a", Page(limit=2))
    assert ([item.id for item in got.items], got.has_more) == (["t4", "t3"], True)
    got = library.search("a", Page(limit=2, after="t3"))
    assert ([item.id for item in got.items], got.has_more) == (["t2", "t1"], True)
    got = library.search("a", Page(limit=2, before="t2"))
    assert ([item.id for item in got.items], got.has_more) == (["t4", "t3"], False)
    got = library.search("train", Page(limit=1, order="asc"))
    assert ([item.id for item in got.items], got.has_more) == (["t0"], True)


def test_search_sees_changes(store: ThreadStore) -> None:
    store.create(thread("t", title="before"), [message("one")])
    store.update("t", lambda found: replace(found, title="after"))
    store.append("t", [message("two")])
    assert [len(store.search(word, Page()).items) for word in ("before", "after", "one", "two")] == [0, 1, 1, 1]
    store.update("t", lambda found: found, lambda _: [message("three")])
    assert [len(store.search(word, Page()).items) for word in ("one", "two", "three")] == [0, 0, 1]
    store.delete("t")
    assert len(store.search("three", Page()).items) == 0


# --- its own files ----------------------------------------------------------------------------------------------------


def test_files_with_hostile_names(store: ThreadStore) -> None:
    hostile = [
        "../../evil",
        "/etc/passwd",
        "..",
        "",
        "a\0b",
        "C:\\x\\win.ini",
        "x" * 300,
        "日本語",
        ".hidden",
        "thread.json",
    ]
    store.create(thread("t"), [], [(name, io.BytesIO(str(number).encode())) for number, name in enumerate(hostile)])
    found = store.files("t")
    contents = []
    for file in found:
        assert ids.is_id(file.name)
        with store.open_file("t", file.name) as opened:
            contents.append(opened.read())
    assert sorted(contents) == sorted(str(number).encode() for number in range(len(hostile)))
    assert [file.name for file in found] == sorted(file.name for file in found)
    assert store.get("t").title == ""


def test_two_files_of_one_name_are_both_kept(store: ThreadStore) -> None:
    store.create(thread("t"), [], [("a/x.txt", io.BytesIO(b"one")), ("b/x.txt", io.BytesIO(b"two"))])
    contents = []
    for file in store.files("t"):
        with store.open_file("t", file.name) as opened:
            contents.append(opened.read())
    assert sorted(contents) == [b"one", b"two"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../thread.json", "a/b", "\0", "nobody", "x" * 5000, "/etc/passwd", "\ud800"]
)
def test_a_file_that_is_not_there(store: ThreadStore, name: str) -> None:
    store.create(thread("t"), [], [("f", io.BytesIO(b"x"))])
    with pytest.raises(NotFoundError):
        store.open_file("t", name)


def test_a_thread_without_files(store: ThreadStore) -> None:
    store.create(thread("t"))
    assert list(store.files("t")) == []
    with pytest.raises(NotFoundError):
        store.open_file("t", "f")


def test_messages_that_are_replaced_are_given_as_they_are(store: ThreadStore) -> None:
    store.create(thread("t"), [message("one"), message("two")])
    seen: list[str] = []

    def reversed_messages(present: Sequence[Message]) -> Sequence[Message]:
        seen.extend(item.text for item in present)
        return present[::-1]

    store.update("t", lambda found: found, reversed_messages)
    assert seen == ["one", "two"]
    assert [item.text for item in store.all_messages("t")] == ["two", "one"]


def test_the_error_says_which_id_names_nothing(repository: Repository) -> None:
    thread = repository.threads.create(Thread(id="t", created_ms=1, updated_ms=1))
    threads, assistants, files = repository.threads, repository.assistants, repository.files
    calls: list[tuple[str, Callable[[str], object]]] = [
        *(("thread_id", call) for call in (threads.get, threads.delete, threads.message_ids, threads.all_messages)),
        ("message_id", lambda name: threads.get_message(thread.id, name)),
        ("message_id", lambda name: threads.delete_message(thread.id, name)),
        *(("assistant_id", call) for call in (assistants.get, assistants.delete)),
        *(("file_id", call) for call in (files.get, files.open)),
    ]
    for param, call in calls:
        for name in ("nothing", "no id/"):
            with pytest.raises(NotFoundError) as caught:
                call(name)
            assert caught.value.param == param


def test_ids_are_those_between_the_cursors_beginning_where_a_page_is_cut(repository: Repository) -> None:
    names = [ids.new_id(ids.THREAD) for _ in range(5)]
    for name in names:
        repository.threads.create(Thread(id=name, created_ms=ids.time_of(name) or 0, updated_ms=1))

    def listed(**page: Any) -> list[int]:
        return [names.index(name) for name in repository.threads.ids(Page(**page))]

    assert listed() == [4, 3, 2, 1, 0]
    assert listed(order="asc", after=names[1]) == [2, 3, 4]
    assert listed(after=names[4], before=names[1]) == [3, 2]
    assert listed(before=names[2]) == [3, 4], "back from the cursor"
