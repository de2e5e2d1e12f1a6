"""What every store of assistants does."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from janflask.errors import ConflictError, InvalidRequestError, NotFoundError
from janflask.files import ids
from janflask.storage.base import AssistantStore, Order, Page, Repository
from janflask.storage.records import DEFAULT_ASSISTANT, Assistant

ORDERS: tuple[Order, ...] = ("asc", "desc")
NOT_IDS = ["", "..", "../jan", "a/b", "%2e%2e", "a\0b", "x" * 300, ".janflask"]


@pytest.fixture
def store(repository: Repository) -> AssistantStore:
    return repository.assistants


def assistant(assistant_id: str = "helper", created_ms: int = 1_700_000_000_000, name: str = "Helper") -> Assistant:
    return Assistant(id=assistant_id, created_ms=created_ms, name=name)


FULL = Assistant(
    id="full",
    created_ms=1_700_000_000_123,
    name="Vollständig 完",
    description="everything",
    avatar="🦙",
    model="tiny",
    models=({"model_id": "tiny"}, {"model_id": "big"}),
    instructions="Be\nbrief.",
    tools=({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},),
    tool_resources={"code_interpreter": {"file_ids": ["file-1"]}},
    file_ids=("file-1", "file-2"),
    events={"in": ["a"], "out": []},
    metadata={"deep": {"list": [1, None, "x", 2.5, True]}},
    temperature=0.0,
    top_p=0.95,
    response_format={"type": "json_object"},
    version="2.1",
    extra={"theirs": {"kept": [1, 2]}},
)


def test_everything_comes_back(store: AssistantStore) -> None:
    assert store.create(FULL) == FULL
    assert store.get("full") == FULL
    assert FULL in store.list(Page()).items


def test_what_is_not_there(store: AssistantStore) -> None:
    for action in (store.get, store.delete, lambda name: store.update(name, lambda found: found)):
        with pytest.raises(NotFoundError):
            action("nobody")


@pytest.mark.parametrize("text", NOT_IDS)
def test_what_is_no_id(store: AssistantStore, text: str) -> None:
    for action in (store.get, store.delete, lambda name: store.update(name, lambda found: found)):
        with pytest.raises(NotFoundError):
            action(text)


@pytest.mark.parametrize("text", [*NOT_IDS, "con", "export", "Import", "nul.txt", "x."])
def test_what_must_not_be_called_so(store: AssistantStore, text: str) -> None:
    with pytest.raises(InvalidRequestError):
        store.create(assistant(text))
    assert [found.id for found in store.list(Page()).items] == [DEFAULT_ASSISTANT]


def test_an_id_that_is_taken(store: AssistantStore) -> None:
    store.create(assistant(name="first"))
    with pytest.raises(ConflictError):
        store.create(assistant(name="second"))
    assert store.get("helper").name == "first"


def test_the_default_is_always_there(store: AssistantStore) -> None:
    default = store.get(DEFAULT_ASSISTANT)
    assert (default.id, default.model) == (DEFAULT_ASSISTANT, "*")
    assert list(store.list(Page()).items) == [default]
    with pytest.raises(ConflictError):
        store.delete(DEFAULT_ASSISTANT)
    with pytest.raises(ConflictError):
        store.create(assistant(DEFAULT_ASSISTANT))
    assert store.get(DEFAULT_ASSISTANT) == default


def test_the_default_can_be_changed(store: AssistantStore) -> None:
    changed = store.update(DEFAULT_ASSISTANT, lambda found: replace(found, instructions="Rhyme."))
    assert changed.instructions == "Rhyme."
    assert store.get(DEFAULT_ASSISTANT) == changed
    assert [found.id for found in store.list(Page()).items] == [DEFAULT_ASSISTANT]
    with pytest.raises(ConflictError):
        store.delete(DEFAULT_ASSISTANT)


def test_a_change_of_the_default_that_raises(store: AssistantStore) -> None:
    before = store.get(DEFAULT_ASSISTANT)
    with pytest.raises(ZeroDivisionError):
        store.update(DEFAULT_ASSISTANT, lambda found: replace(found, name=str(1 // 0)))
    assert store.get(DEFAULT_ASSISTANT) == before


def test_a_change(store: AssistantStore) -> None:
    store.create(FULL)
    changed = store.update("full", lambda found: replace(found, name="New", metadata={}, temperature=None))
    assert changed == replace(FULL, name="New", metadata={}, temperature=None)
    assert store.get("full") == changed


def test_the_id_stays(store: AssistantStore) -> None:
    store.create(assistant())
    assert store.update("helper", lambda found: replace(found, id="other", name="N")).id == "helper"
    assert store.get("helper").name == "N"
    with pytest.raises(NotFoundError):
        store.get("other")


def test_a_change_that_raises_changes_nothing(store: AssistantStore) -> None:
    store.create(FULL)

    def change(found: Assistant) -> Assistant:
        found.metadata["deep"]["list"].append("spoilt")  # type: ignore[index]
        raise InvalidRequestError("no")

    with pytest.raises(InvalidRequestError, match="no"):
        store.update("full", change)
    assert store.get("full").metadata == {"deep": {"list": [1, None, "x", 2.5, True]}}


def test_nobody_sees_what_a_caller_does_with_his_copy(store: AssistantStore) -> None:
    mine = {"a": {"b": 1}}
    store.create(replace(assistant(), metadata=mine))
    mine["a"]["b"] = 2
    store.get("helper").metadata["a"]["b"] = 3  # type: ignore[index]
    assert store.get("helper").metadata == {"a": {"b": 1}}


def test_deleting(store: AssistantStore) -> None:
    store.create(assistant())
    store.delete("helper")
    with pytest.raises(NotFoundError):
        store.get("helper")
    with pytest.raises(NotFoundError):
        store.delete("helper")
    store.create(assistant(name="again"))
    assert store.get("helper").name == "again"


def test_pages(store: AssistantStore) -> None:
    store.update(DEFAULT_ASSISTANT, lambda found: replace(found, created_ms=1_700_000_000_002))
    for number in (4, 1, 3, 5):
        store.create(assistant(f"a{number}", 1_700_000_000_000 + number))
    store.create(assistant("a0", 1_700_000_000_003))  # the same time as another's: by id
    ascending = ["a1", DEFAULT_ASSISTANT, "a0", "a3", "a4", "a5"]
    for after, before, order, limit in itertools.product(
        [None, *ascending], [None, *ascending], ORDERS, (None, 1, 4, 6)
    ):
        listed = ascending if order == "asc" else ascending[::-1]
        start = 0 if after is None else listed.index(after) + 1
        stop = len(listed) if before is None else listed.index(before)
        between = listed[start:stop]
        if limit is not None and len(between) > limit:
            wanted = between[-limit:] if before is not None and after is None else between[:limit]
        else:
            wanted = between
        got = store.list(Page(limit=limit, order=order, after=after, before=before))
        assert [found.id for found in got.items] == wanted
        assert got.has_more == (len(wanted) < len(between))


@pytest.mark.parametrize("param", ["after", "before"])
def test_a_cursor_that_is_not_in_the_list(store: AssistantStore, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        store.list(Page(**{param: "nobody"}))
    assert caught.value.param == param


def test_a_cursor_whose_assistant_is_gone(store: AssistantStore) -> None:
    times = [1_700_000_000_000 + number for number in range(3)]
    made = [store.create(assistant(ids.new_id(ids.ASSISTANT, at_ms), at_ms)).id for at_ms in times]
    store.delete(made[1])
    assert [found.id for found in store.list(Page(order="asc", after=made[1])).items] == [made[2]]
    assert [found.id for found in store.list(Page(order="desc", before=made[1])).items] == [made[2]]
