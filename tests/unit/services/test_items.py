"""Items become lines of a thread, and lines are seen as items; one goes without the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from janflask.errors import ConflictError, InvalidRequestError, NotFoundError, RequestTooLargeError, StoreDamagedError
from janflask.files import ids
from janflask.services.compacted import carried
from janflask.services.items import MAX_READ, drafted
from janflask.services.turns import turns_of
from janflask.storage.base import Page
from janflask.storage.items import (
    CallDraft,
    Item,
    ItemDraft,
    ItemKind,
    ItemReference,
    OutputDraft,
    ReasoningDraft,
    SealedDraft,
    place_in,
)
from janflask.storage.records import MessageDraft, Run
from janflask.storage.run_log import ReasoningEvent, TextEvent
from tests.unit.services.item_world import (
    CALL,
    OUTPUT,
    RUN_ROUNDS,
    THOUGHT,
    THREAD,
    ItemWorld,
    brief,
    line,
    said,
)

# A run's answer, one with calls of its own, and words of a program that knows nothing of all this.
LINES = (
    line(1, "Hi", role="user"),
    line(2, "A cat.", reasoning_content="So it is", tool_rounds=RUN_ROUNDS),
    line(3, "More?", role="user"),
    line(
        4,
        "Let me see.",
        reasoning_content="Hm",
        tool_calls=[
            {"id": f"call_{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
            for number in (3, 4)
        ],
    ),
    line(5, "blue", role="tool", tool_call_id="call_3"),
)
ITEMS = {
    "msg_1": "Hi",
    "fc_2_0_0": "?call_1",
    "fco_2_0_0": "=a cat",
    "fc_2_0_1": "?call_2",
    "fco_2_0_1": "=done",
    "rs_2": "(So it is",
    "msg_2": "A cat.",
    "msg_3": "More?",
    "rs_4": "(Hm",
    "msg_4": "Let me see.",
    "fc_4_0": "?call_3",
    "fc_4_1": "?call_4",
    "fco_5": "=blue",
}


def refused(*drafts: ItemDraft, known: bool = True) -> tuple[str | None, str]:
    """The place and the words of the error."""
    places = [f"input.{number}" for number in range(len(drafts))]
    with pytest.raises(InvalidRequestError) as caught:
        drafted(THREAD, drafts, places, unknown, max_bytes=1 << 20, before=() if known else None)
    return caught.value.param, caught.value.message


def unknown(item_id: str) -> Item:
    raise NotFoundError(f"there is no item {item_id}")


def lines_of(*drafts: ItemDraft, known: bool = True) -> list[str]:
    """The role of each line, and how many items it is."""
    places = [f"input.{number}" for number in range(len(drafts))]
    lines = drafted(THREAD, drafts, places, unknown, max_bytes=1 << 20, before=() if known else None)
    assert [item.id for item in lines] == sorted(item.id for item in lines)
    assert all(ids.time_of(item.id) for item in lines)
    return [f"{item.role}{' thinks' if item.extra.get('reasoning_content') else ''}" for item in lines]


# --- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drafts", "expected"),
    [
        ([said("Hi"), THOUGHT, CALL, OUTPUT], ["user", "assistant thinks", "tool"]),
        ([THOUGHT, said("Hi", "assistant")], ["assistant thinks"]),
        ([THOUGHT, said("Hi")], ["assistant thinks", "user"]),
        ([THOUGHT, THOUGHT, CALL, OUTPUT, THOUGHT], ["assistant thinks"] * 2 + ["tool", "assistant thinks"]),
        ([ReasoningDraft(""), said("Hi", "assistant")], ["assistant"]),
        ([THOUGHT, ReasoningDraft(""), CALL], ["assistant thinks", "assistant"]),
        ([said("Be brief.", "developer"), said("", "user")], ["developer", "user"]),
        ([], []),
    ],
)
def test_one_item_is_one_line_and_thoughts_stand_with_what_follows(
    drafts: list[ItemDraft], expected: list[str]
) -> None:
    assert lines_of(*drafts) == expected


def test_what_was_brought_is_seen_again_in_its_order() -> None:
    world = ItemWorld()
    drafts = [said("Hi"), THOUGHT, CALL, OUTPUT, THOUGHT, said("Blue.", "assistant"), THOUGHT, said("And?")]
    made = world.create(*drafts)
    assert brief(made) == ["Hi", "(Hm", "?call_1", "=blue", "(Hm", "Blue.", "(Hm", "And?"]
    assert [item.id for item in world.all()] == [item.id for item in made]
    assert [item.id for item in world.all(order="desc")] == [item.id for item in made][::-1]
    assert all(world.items.get(THREAD, item.id) == item for item in made)


@pytest.mark.parametrize(
    ("drafts", "place", "words"),
    [
        ([OUTPUT], "input.0", "does not come before it"),
        ([said("Hi"), OUTPUT, CALL], "input.1", "does not come before it"),
        ([CALL, OUTPUT, OUTPUT], "input.2", "second output"),
        ([CALL, CALL], "input.1", "no output yet"),
    ],
)
def test_what_is_out_of_order_is_refused(drafts: list[ItemDraft], place: str, words: str) -> None:
    param, message = refused(*drafts)
    assert param == place
    assert words in message
    assert message.startswith(place)


def test_an_output_may_answer_a_call_that_came_before_the_request() -> None:
    assert lines_of(OUTPUT, known=False) == ["tool"]
    assert refused(OUTPUT, CALL, known=False)[0] == "input.1", "its output came first"
    assert refused(OUTPUT, OUTPUT, known=False)[0] == "input.1"


def test_what_agents_send_is_taken() -> None:
    """Two calls at once, a call that was given up, words between a call and its output, ids that come in each turn."""
    other = CallDraft("call_2", "look", "{}")
    assert len(lines_of(said("Hi"), CALL, other, OutputDraft("call_2", ""), OUTPUT)) == 5
    assert len(lines_of(said("Hi"), CALL, said("No, wait"), CALL, OUTPUT)) == 5
    assert len(lines_of(said("Hi"), CALL, said("Well?"), OUTPUT)) == 4
    assert len(lines_of(said("Hi"), CALL, OUTPUT, CALL, OUTPUT)) == 5


def test_the_calls_of_the_thread_count() -> None:
    world = ItemWorld(*LINES)
    assert brief(world.create(OutputDraft("call_4", "red"))) == ["=red"]
    for call_id in ("call_1", "call_3", "call_4"):  # a run's, a response's, and the one just now
        with pytest.raises(InvalidRequestError, match="second output"):
            world.create(OutputDraft(call_id, "red"))
    assert len(world.lines()) == 6


def test_calls_are_looked_for_from_the_threads_end() -> None:
    """A thread is longer than what is read at a time; what an id meant last counts."""
    world = ItemWorld(*LINES)
    world.create(CALL, OUTPUT, CALL, *(said("x") for _ in range(2 * MAX_READ)))
    assert brief(world.create(OUTPUT)) == ["=blue"]
    with pytest.raises(InvalidRequestError, match="second output"):
        world.create(OUTPUT)
    assert brief(world.create(OutputDraft("call_4", "red"))) == ["=red"]
    with pytest.raises(InvalidRequestError, match="does not come before"):
        world.create(OutputDraft("call_9", "red"))


def test_a_line_has_a_size() -> None:
    world = ItemWorld(max_message_mb=1)
    long = "x" * (1 << 20)
    for draft in (said(long), CallDraft("c", "f", long), ReasoningDraft(long)):
        with pytest.raises(RequestTooLargeError) as caught:
            world.create(said("Hi"), draft, said("x"))
        assert caught.value.param == "items.1"
    assert world.lines() == []


def test_a_reference_is_a_copy() -> None:
    world = ItemWorld(*LINES)
    other = world.items.create(THREAD, [said("x")], ["items.0"])[0]
    for item_id in ("msg_2", "rs_4", other.id):
        (copy,) = world.create(ItemReference(item_id))
        original = world.items.get(THREAD, item_id)
        assert (copy.kind, copy.text) == (original.kind, original.text)
        assert copy.id != item_id
    made = world.create(said("Again."), ItemReference("fc_4_1"), OutputDraft("call_4", "red"))
    (copy,) = world.create(said("Again."), ItemReference("fc_4_1"), ItemReference(made[-1].id))[2:]
    assert (copy.text, copy.call) == ("red", made[-1].call)
    with pytest.raises(NotFoundError) as caught:
        world.create(said("Hi"), ItemReference("msg_9"))
    assert caught.value.param == "items.1"


def test_what_came_sealed_is_opened_first(tmp_path: Path) -> None:
    world = ItemWorld(folder=tmp_path)
    hi = said("Hi")
    thought = SealedDraft("reasoning", world.seals.sealed("reasoning", "Hm"))
    assert world.items.opened([hi, thought], ["input.0", "input.1"]) == ((hi, THOUGHT), ("input.0", "input.1"))
    with pytest.raises(InvalidRequestError) as caught:
        world.items.opened([hi, SealedDraft("reasoning", "theirs")], ["input.0", "input.1"])
    assert (caught.value.param, caught.value.code) == ("input.1.encrypted_content", "invalid_encrypted_content")


def test_a_summary_comes_with_what_it_keeps(tmp_path: Path) -> None:
    world = ItemWorld(line(1, "Long ago", role="user"), folder=tmp_path)
    kept = [line(2, "Be brief.", role="system"), line(3, "Look!", role="user"), LINES[3], LINES[4]]
    sealed = world.seals.sealed("compaction", carried("They looked.", kept))
    drafts, places = world.items.opened([SealedDraft("compaction", sealed), said("And?")], ["input.0", "input.1"])
    assert list(places) == ["input.0"] * (len(drafts) - 1) + ["input.1"]
    made = world.items.create(THREAD, drafts, places)
    assert brief(made)[:3] == ["Be brief.", "#They looked.", "Look!"]
    turns = turns_of(world.lines())
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user", "assistant", "tool", "user"]
    assert turns[0].text == "Be brief."
    assert turns[2].text == "They looked."
    assert world.items.get(THREAD, made[1].id).kind is ItemKind.COMPACTION
    world.items.delete(THREAD, made[1].id)
    assert turns_of(world.lines())[0].text == "Long ago"


# --- the thread as items ----------------------------------------------------------------------------------------------


def test_a_thread_written_by_others_is_seen_as_items() -> None:
    found = ItemWorld(*LINES).all()
    assert {item.id: word for item, word in zip(found, brief(found), strict=True)} == ITEMS
    assert [item.id for item in found] == list(ITEMS)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_cut_messages_in_two(order: str, limit: int) -> None:
    world, found, after = ItemWorld(*LINES), list[str](), None
    while True:
        page = world.items.list(THREAD, Page(limit=limit, order=order, after=after))  # type: ignore[arg-type]
        found += [item.id for item in page.items]
        if not page.has_more:
            break
        assert len(page.items) == limit
        after = found[-1]
    assert found == (list(ITEMS) if order == "asc" else list(ITEMS)[::-1])


def test_a_cursor_may_be_gone() -> None:
    world = ItemWorld(*LINES)
    for item_id, rest in (("rs_2", 7), ("fc_4_0", 2), ("fco_2_0_0", 10)):
        world.items.delete(THREAD, item_id)
        assert next(item.id for item in world.all(after=item_id)) == list(ITEMS)[-rest]
    made = world.create(said("a"), said("b"), said("c"))
    world.items.delete(THREAD, made[1].id)
    assert [item.id for item in world.all(after=made[1].id)] == [made[2].id]
    with pytest.raises(InvalidRequestError, match="not in this list"):
        world.all(after="msg_nothing")


def test_the_places_of_items_are_their_order() -> None:
    found = ItemWorld(*LINES).all()
    places = [(item.message.id, place_in(item.message.id, item.id)) for item in found]
    assert places == sorted(places)  # type: ignore[type-var]
    assert place_in("msg_2", "msg_3") is None
    assert place_in("msg_2", "fc_2_x") is None


@pytest.mark.parametrize("item_id", list(ITEMS))
def test_one_item_goes_alone(item_id: str) -> None:
    """The others keep their ids; of a run's rounds a call takes its output with it."""
    world = ItemWorld(*LINES)
    world.items.delete(THREAD, item_id)
    gone = {item_id, item_id.replace("fc_", "fco_")} if item_id.startswith("fc_2") else {item_id}
    found = world.all()
    assert {item.id: word for item, word in zip(found, brief(found), strict=True)} == {
        name: word for name, word in ITEMS.items() if name not in gone
    }
    with pytest.raises(NotFoundError) as caught:
        world.items.get(THREAD, item_id)
    assert caught.value.param == "item_id"


def test_items_go_one_by_one_until_nothing_is_left() -> None:
    world = ItemWorld(*LINES)
    for item_id in ITEMS:
        try:
            world.items.delete(THREAD, item_id)
        except NotFoundError:
            assert item_id.startswith("fco_2")
    assert world.lines() == []


def test_an_answer_of_calls_alone_is_no_message() -> None:
    empty = ({"type": "text", "text": {"value": "", "annotations": []}},)
    assert [item.id for item in ItemWorld(replace(LINES[3], content=empty)).all()] == ["rs_4", "fc_4_0", "fc_4_1"]
    world = ItemWorld()
    assert [item.kind for item in world.create(MessageDraft(role="assistant", content=empty))] == [ItemKind.MESSAGE]


def test_what_cannot_be_read_is_left_out_of_the_list_and_told_by_itself() -> None:
    world = ItemWorld(LINES[0], line(2, "x", tool_calls=[{"id": "1"}]))
    assert brief(world.all()) == ["Hi"]
    with pytest.raises(StoreDamagedError, match="tool_calls of message msg_2"):
        world.items.get(THREAD, "msg_2")


def test_a_thread_that_is_being_answered_is_locked() -> None:
    world = ItemWorld(*LINES)
    run = Run(
        id="run_1",
        thread_id=THREAD,
        assistant_id="jan",
        message_id="msg_r",
        step_id="step_1",
        created_ms=1,
        expires_ms=2,
        model="m",
        replied_ms=3,
    )
    world.repository.runs.create(run)
    with world.repository.runs.event_log(THREAD, run.id) as events:
        events.add([ReasoningEvent("Hm"), TextEvent("It")])
    with pytest.raises(ConflictError) as caught:
        world.create(said("Hi"))
    assert (caught.value.status, caught.value.code) == (409, "conversation_locked")
    assert [item.id for item in world.all()] == [*ITEMS, "rs_r", "msg_r"], "the answer, as far as it has come"
    assert world.items.get(THREAD, "msg_r").text == "It"
    assert [item.id for item in world.all(order="desc", after="msg_r")][:2] == ["rs_r", "fco_5"]
    for item_id in ("rs_r", "msg_r"):
        with pytest.raises(InvalidRequestError, match="being written"):
            world.items.delete(THREAD, item_id)


def test_unknown_threads_and_items() -> None:
    world = ItemWorld(*LINES)
    for thread_id in ("thread_2", "../x"):
        for act in (
            lambda: world.items.get(thread_id, "msg_1"),  # noqa: B023
            lambda: world.items.list(thread_id, Page()),  # noqa: B023
            lambda: world.items.delete(thread_id, "msg_1"),  # noqa: B023
            lambda: world.items.create(thread_id, [said("Hi")], ["items.0"]),  # noqa: B023
        ):
            with pytest.raises(NotFoundError):
                act()
    for item_id in ("msg_9", "fc_1_0", "rs_1", "../x", "fc_", "fco_2_9_9", "x" * 200):
        with pytest.raises(NotFoundError):
            world.items.get(THREAD, item_id)


@pytest.mark.parametrize("name", ["rs_1", "fc_1_2", "fco_x", "cmp_1"])
def test_a_message_made_elsewhere_may_have_an_id_like_that_of_an_item(name: str) -> None:
    world = ItemWorld(*(replace(line(number, "Hi", "user"), id=own) for number, own in enumerate(("a", name, "b"))))
    assert brief([world.items.get(THREAD, name)]) == ["Hi"]
    assert [item.id for item in world.items.list(THREAD, Page(limit=2, order="asc", after=name)).items] == ["b"]
    world.items.delete(THREAD, name)
    assert [item.id for item in world.items.list(THREAD, Page(limit=9, order="asc")).items] == ["a", "b"]
