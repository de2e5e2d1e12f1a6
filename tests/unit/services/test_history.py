"""Which messages a model is shown: the newest whole turns that fit, and a word on the rest."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from janflask.errors import ContextLengthExceededError
from janflask.inference.window import fitting
from janflask.storage.records import Message


def conversation(roles: str) -> list[Message]:
    """``u`` is a user's message, ``a`` an assistant's; ids count them."""
    names = {"u": "user", "a": "assistant"}
    return [
        Message(id=str(number), thread_id="t", created_ms=number, role=names[role]) for number, role in enumerate(roles)
    ]


class Room:
    """Room for so many messages; counts how often it was asked."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.asked = 0

    def __call__(self, messages: Sequence[Message]) -> bool:
        self.asked += 1
        return len(messages) <= self.limit


def shown(roles: str, limit: int, most: int | None = None) -> str:
    window = fitting(conversation(roles), Room(limit), most)
    ids = [message.id for message in window.shown]
    assert [*window.left_out, *ids] == [str(number) for number in range(len(roles))]
    return roles[len(window.left_out) :]


@pytest.mark.parametrize(
    ("roles", "limit", "expected"),
    [
        ("uauau", 5, "uauau"),
        ("uauau", 4, "uau"),
        ("uauau", 3, "uau"),
        ("uauau", 2, "u"),
        ("uauau", 1, "u"),
        ("auau", 3, "uau"),  # what an assistant said first is a turn of its own
        ("uaaauaa", 4, "uaa"),  # several answers to one question go together
        ("uuu", 2, "uu"),
        ("aaa", 3, "aaa"),
        ("", 0, ""),
    ],
)
def test_whole_turns_go_the_oldest_first(roles: str, limit: int, expected: str) -> None:
    assert shown(roles, limit) == expected


@pytest.mark.parametrize(
    ("roles", "most", "expected"),
    [
        ("uauau", 5, "uauau"),
        ("uauau", 3, "uau"),
        ("uauau", 2, "u"),  # an answer without its question would mislead
        ("uauau", 1, "u"),
        ("uaa", 1, "uaa"),  # the newest question stays
        ("uauau", 99, "uauau"),
    ],
)
def test_the_last_messages_only(roles: str, most: int, expected: str) -> None:
    assert shown(roles, 100, most) == expected


def test_the_last_messages_have_to_fit_too() -> None:
    assert shown("uauauau", 2, most=5) == "u"


@pytest.mark.parametrize("roles", ["u", "uau", "uaa"])
def test_the_newest_question_is_never_left_out(roles: str) -> None:
    with pytest.raises(ContextLengthExceededError, match="newest message"):
        fitting(conversation(roles), Room(0))


def test_a_long_conversation_is_not_measured_turn_by_turn() -> None:
    room = Room(1000)
    window = fitting(conversation("ua" * 50_000), room)
    assert len(window.shown) == 1000
    assert room.asked <= 18
