"""Families of threads, in every store; what makes one a branch; and what another program does to their files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from janflask.files import ids
from janflask.settings import Settings
from janflask.storage import branches, open_repository
from janflask.storage.base import Page, Repository, ThreadStore
from janflask.storage.records import Message, Thread, text_part

ALL = Page(limit=None, order="asc")
LISTED = Page(limit=None, order="asc", branches=False)


@pytest.fixture
def store(repository: Repository) -> ThreadStore:
    return repository.threads


def thread(number: int, root: str | None = None, title: str = "", owner: str | None = None) -> Thread:
    metadata = {} if root is None else {"branch_root": root}
    made = 1_700_000_000_000 + number
    return Thread(id=name(number), created_ms=made, updated_ms=made, title=title, metadata=metadata, owner=owner)


def name(number: int) -> str:
    return f"jan_{number}"


def numbers(store: ThreadStore, page: Page, query: str = "") -> list[int]:
    found = store.search(query, page) if query else store.list(page)
    return [int(one.id.removeprefix("jan_")) for one in found.items]


def family(number: int) -> Page:
    return replace(ALL, family=name(number))


@pytest.fixture
def families(store: ThreadStore) -> ThreadStore:
    """1 with 2 and 4, 3 alone, 5 of one that is gone."""
    for one in (thread(1), thread(2, name(1)), thread(3), thread(4, name(1)), thread(5, name(9))):
        store.create(one)
    return store


def test_a_list_without_branches(families: ThreadStore) -> None:
    assert numbers(families, ALL) == [1, 2, 3, 4, 5]
    assert numbers(families, LISTED) == [1, 3, 5]
    assert numbers(families, Page(limit=2, branches=False)) == [5, 3]
    assert numbers(families, Page(limit=2, branches=False, after=name(3))) == [1]
    assert numbers(families, Page(limit=1, branches=False, before=name(1))) == [3]
    assert families.list(Page(limit=3, branches=False)).has_more is False
    assert list(families.ids(LISTED)) == [name(1), name(3), name(5)]
    assert (families.count(), families.count(LISTED), families.count(replace(LISTED, limit=1))) == (5, 3, 3)


def test_a_family(families: ThreadStore) -> None:
    assert numbers(families, family(1)) == [1, 2, 4]
    assert numbers(families, Page(limit=2, family=name(1))) == [4, 2]
    assert numbers(families, Page(limit=2, family=name(1), after=name(2))) == [1]
    assert [numbers(families, family(number)) for number in (2, 3, 9, 7)] == [[2], [3], [5], []]
    assert families.count(family(1)) == 3


def test_when_its_first_thread_goes_a_family_is_listed(families: ThreadStore) -> None:
    families.delete(name(1))
    assert numbers(families, LISTED) == [2, 3, 4, 5]
    assert numbers(families, family(1)) == [2, 4]
    families.create(thread(1))
    assert numbers(families, LISTED) == [1, 3, 5]


def test_a_thread_comes_into_a_family_and_leaves_it_by_its_metadata(families: ThreadStore) -> None:
    assert numbers(families, LISTED) == [1, 3, 5]
    families.update(name(3), lambda found: replace(found, metadata={"branch_root": name(1)}))
    assert (numbers(families, LISTED), numbers(families, family(1))) == ([1, 5], [1, 2, 3, 4])
    families.update(name(3), lambda found: replace(found, title="x"))
    assert numbers(families, LISTED) == [1, 5]
    families.update(name(3), lambda found: replace(found, metadata={}), lambda _: [])
    assert (numbers(families, LISTED), numbers(families, family(1))) == ([1, 3, 5], [1, 2, 4])


@pytest.mark.parametrize("root", [None, 1, "", "jan_3", "../x", ["jan_1"], {"id": "jan_1"}])
def test_what_is_no_root(families: ThreadStore, root: object) -> None:
    families.update(name(3), lambda found: replace(found, metadata={"branch_root": root}))
    assert numbers(families, LISTED) == [1, 3, 5]


def test_a_first_thread_is_found_by_the_words_of_its_branches(families: ThreadStore) -> None:
    for number, words in ((1, "apple"), (2, "apple pear"), (4, "plum"), (5, "plum")):
        text = Message(id=f"m{number}", thread_id="", created_ms=1, content=(text_part(words),))
        families.append(name(number), [text])
    assert [numbers(families, LISTED, words) for words in ("apple", "pear", "plum")] == [[1], [1], [1, 5]]
    assert numbers(families, LISTED, "pear plum") == [], "no one thread has both"
    assert numbers(families, ALL, "plum") == [4, 5]
    assert numbers(families, family(1), "apple") == [1, 2]
    assert numbers(families, Page(limit=1, branches=False), "plum") == [5]


def test_everybody_has_a_list_of_his_own(store: ThreadStore) -> None:
    alice, bob = "alicealiceal", "bobbobbobbob"
    for one in (thread(1, owner=alice), thread(2, name(1), owner=bob), thread(3, name(1), owner=alice)):
        store.create(one)
    assert numbers(store, LISTED) == [1]
    assert numbers(store, replace(LISTED, owner=alice)) == [1]
    assert numbers(store, replace(LISTED, owner=bob)) == [2], "what it is a branch of is not there for bob"
    assert numbers(store, replace(family(1), owner=bob)) == [2]
    store.give(name(2), alice)
    assert (numbers(store, replace(LISTED, owner=alice)), numbers(store, replace(LISTED, owner=bob))) == ([1], [])


# --- what another program does ----------------------------------------------------------------------------------------


@pytest.fixture
def repository_of_files(settings: Settings) -> Repository:
    return open_repository(settings)


def test_a_file_that_another_program_wrote_anew(settings: Settings, repository_of_files: Repository) -> None:
    """What it says is noticed at the latest when the thread is next in a list."""
    store = repository_of_files.threads
    for one in (thread(1), thread(2, name(1)), thread(3)):
        store.create(one)
    assert numbers(store, LISTED) == [1, 3]
    for number, metadata in ((2, {}), (3, {"branch_root": name(1)})):
        file = settings.threads_dir / name(number) / "thread.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "metadata": metadata}))
    assert numbers(store, LISTED) == [1], "3 is a branch now"
    assert numbers(store, family(1)) == [1, 3], "and 2 is none any more"
    assert numbers(store, LISTED) == [1, 2]
    assert numbers(open_repository(settings).threads, LISTED) == [1, 2]


def test_without_its_index_a_store_has_the_same_families(settings: Settings, families: ThreadStore) -> None:
    for file in settings.cache_dir.glob("threads-*"):
        file.unlink()
    again = open_repository(settings).threads if settings.cache_dir.exists() else families
    assert (numbers(again, LISTED), numbers(again, family(1))) == ([1, 3, 5], [1, 2, 4])


# --- what makes one ---------------------------------------------------------------------------------------------------


def test_a_branch_is_as_its_thread_and_says_where_it_left() -> None:
    first = replace(thread(1, title="Cheese"), metadata={"topic": "food", "branch_shown": "x"}, model_id="tiny")
    first = replace(first, extra={"kept": 1, "made_for": "resp_1", "branched_from": {"thread_id": "x"}})
    made = branches.branch(first, "m2")
    assert made.metadata == {
        **{"topic": "food", "branch_root": name(1), "branch_parent": name(1)},
        "branch_after": "m2",
    }
    assert (made.title, made.model_id, made.extra) == ("Cheese", "tiny", {"kept": 1})
    assert made.created_ms == made.updated_ms == ids.time_of(made.id)
    assert branches.root_of(made) == name(1)


def test_a_branch_of_a_branch_is_of_the_same_family() -> None:
    one = branches.branch(thread(1), "m2")
    two = branches.branch(one, "m4")
    assert (two.metadata["branch_root"], two.metadata["branch_parent"]) == (name(1), one.id)
    sibling = branches.branch(one, "m2")
    assert sibling.metadata == one.metadata, "it left where its parent had left"
    assert branches.branch(sibling, "m2").metadata == one.metadata
    assert branches.branch(two, "m4").metadata["branch_parent"] == one.id
    first = branches.branch(thread(1), "")
    assert branches.branch(first, "").metadata == first.metadata


def test_alone_it_is_of_no_family() -> None:
    made = branches.alone(replace(branches.branch(thread(1), "m2"), title="x"))
    assert (made.metadata, made.title, branches.root_of(made)) == ({}, "x", None)
