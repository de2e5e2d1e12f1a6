"""Lines of a thread as turns: what the assistant thought, said and called in one turn is one."""

from __future__ import annotations

from typing import Any

import pytest

from janflask.errors import InvalidRequestError
from janflask.inference.leftovers import of_message
from janflask.inference.parts import Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from janflask.inference.window import conversation, fitting
from janflask.services.turns import turns_of
from janflask.storage.records import Message
from tests.unit.services.item_world import RUN_ROUNDS, line


def calls(*call_ids: str) -> list[dict[str, Any]]:
    return [
        {"id": call_id, "type": "function", "function": {"name": "look", "arguments": "{}"}} for call_id in call_ids
    ]


def thinks(number: int, thought: str = "Hm", **more: Any) -> Message:
    return line(number, reasoning_content=thought, **more)


def asks(number: int, text: str = "Hi") -> Message:
    return line(number, text, role="user")


def output(number: int, call_id: str, text: str = "blue") -> Message:
    return line(number, text, role="tool", tool_call_id=call_id)


def call(call_id: str) -> ToolCallPart:
    return ToolCallPart(call_id, "look", "{}")


def told(*lines: Message) -> list[tuple[str, tuple[Part, ...]]]:
    return [(turn.role, turn.parts) for turn in turns_of(lines)]


USER = ("user", (TextPart("Hi"),))
BLUE = ("tool", (ToolResultPart("blue", "c1"),))


def test_neighbouring_lines_of_the_assistant_are_one_turn() -> None:
    lines = asks(1), thinks(2, "A"), line(3, "Let me see."), line(4, tool_calls=calls("c1")), output(5, "c1")
    assert told(*lines) == [USER, ("assistant", (ReasoningPart("A"), TextPart("Let me see."), call("c1"))), BLUE]
    one = line(2, "Let me see.", reasoning_content="A", tool_calls=calls("c1"))
    assert turns_of((asks(1), one, output(5, "c1"))) == turns_of(lines)


def test_calls_at_once_are_one_turn_wherever_thoughts_and_words_stand() -> None:
    lines = asks(1), thinks(2, "A", tool_calls=calls("c1")), thinks(3, "B"), line(4, "And", tool_calls=calls("c2"))
    assert told(*lines, output(5, "c1"), output(6, "c2"))[1:] == [
        ("assistant", (ReasoningPart("A\n\nB"), TextPart("And"), call("c1"), call("c2"))),
        BLUE,
        ("tool", (ToolResultPart("blue", "c2"),)),
    ]


def test_words_behind_words_are_another_turn() -> None:
    """As Jan has it where an answer was made twice: the chat template says what it makes of that."""
    assert told(asks(1), line(2, "A"), line(3, "B")) == [
        USER,
        ("assistant", (TextPart("A"),)),
        ("assistant", (TextPart("B"),)),
    ]


def test_thoughts_are_shown_while_the_tool_loop_lasts() -> None:
    loop = thinks(2, "A", tool_calls=calls("c1")), output(3, "c1"), thinks(4, "B", tool_calls=calls("c2"))
    first, second = ("assistant", (ReasoningPart("A"), call("c1"))), ("assistant", (ReasoningPart("B"), call("c2")))
    assert told(asks(1), *loop) == [USER, first, BLUE, second]
    silent = [USER, ("assistant", (call("c1"),)), BLUE, ("assistant", (call("c2"),))]
    assert told(asks(1), *loop, asks(5)) == [*silent, USER]
    answered = line(6, "Blue.", reasoning_content="C")
    assert told(asks(1), *loop, output(5, "c2"), answered)[:4] == silent
    assert told(asks(1), *loop, output(5, "c2"), answered)[-1] == ("assistant", (TextPart("Blue."),))


def test_thoughts_alone_are_no_turn() -> None:
    assert told(asks(1), thinks(2), asks(3)) == [USER, USER]


def test_rounds_of_runs_and_calls_of_responses_stand_in_one_thread() -> None:
    lines = (
        asks(1),
        line(2, "A cat.", tool_rounds=RUN_ROUNDS),
        asks(3),
        line(4, tool_calls=calls("c1")),
        output(5, "c1"),
        line(6, "Blue."),
        line(7, "As I said.", tool_rounds=[{"message_id": "msg_6", "calls": RUN_ROUNDS[0]["calls"]}]),
    )
    run_calls = (ToolCallPart("call_1", "look", "{}"), ToolCallPart("call_2", "go", '{"to": "it"}'))
    results = [("tool", (ToolResultPart("a cat", "call_1"),)), ("tool", (ToolResultPart("done", "call_2"),))]
    assert told(*lines) == [
        USER,
        ("assistant", run_calls),
        *results,
        ("assistant", (TextPart("A cat."),)),
        USER,
        ("assistant", (call("c1"),)),
        BLUE,
        ("assistant", (TextPart("Blue."), *run_calls)),
        *results,
        ("assistant", (TextPart("As I said."),)),
    ]


@pytest.mark.parametrize(
    "kept", [[{"id": "1"}], "x", 5, [None], [{"id": "1", "function": {"name": "f", "arguments": {}}}]]
)
def test_calls_that_nobody_can_read_are_named(kept: object) -> None:
    broken = line(2, "x", tool_calls=kept)
    with pytest.raises(InvalidRequestError, match="tool_calls of message msg_2 cannot be read"):
        turns_of((asks(1), broken))
    assert of_message(broken) == ["calls that cannot be read (tool_calls)"]
    assert conversation((asks(1), broken)) == [asks(1), broken]
    assert len(fitting((asks(1), broken), lambda _: True).shown) == 2


def test_calls_that_can_be_read_are_shown() -> None:
    assert of_message(line(2, tool_calls=calls("c1"))) == []
    assert of_message(output(3, "c1")) == []


# --- what fits --------------------------------------------------------------------------------------------------------


def test_lines_with_calls_or_thoughts_are_part_of_the_conversation() -> None:
    lines = [asks(1), thinks(2), line(3, tool_calls=calls("c1")), output(4, "c1", ""), line(5)]
    assert conversation(lines) == lines[:4]


@pytest.mark.parametrize(
    ("limit", "most", "first"),
    [
        (9, None, 1),
        (6, None, 4),
        (5, None, 9),
        (3, None, 9),
        (1, None, 9),
        (99, 5, 9),
        (99, 6, 4),
        (99, 8, 4),
        (99, 1, 9),
    ],
)
def test_a_call_and_its_outputs_stay_together(limit: int, most: int | None, first: int) -> None:
    """What a user says before an output comes begins no window."""
    lines = [
        asks(1),
        line(2, "A"),
        line(3, "B"),
        asks(4),
        line(5, tool_calls=calls("c1", "c2")),
        output(6, "c1"),
        asks(7, "Well?"),
        output(8, "c2"),
        asks(9),
    ]
    shown = fitting(lines, lambda part: len(part) <= limit, most).shown
    assert shown[0].id == f"msg_{first}"
    assert shown[-1] == lines[-1]


def test_ids_of_calls_that_come_in_each_turn_bind_the_newest() -> None:
    lines = [
        asks(1),
        line(2, tool_calls=calls("c1")),
        output(3, "c1"),
        asks(4),
        line(5, tool_calls=calls("c1")),
        output(6, "c1"),
    ]
    assert [item.id for item in fitting(lines, lambda part: len(part) <= 3).shown] == ["msg_4", "msg_5", "msg_6"]
