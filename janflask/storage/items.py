"""A conversation as items: each message of a thread is one or more of them, in this order.

========================  ============================================================================================
of a message              its items, and their ids for a message ``msg_X`` (``X`` is the whole id of one made elsewhere)
========================  ============================================================================================
``tool_rounds``           a call ``fc_X_R_N`` and then an output ``fco_X_R_N`` for each call N of each round R
``reasoning_content``     ``rs_X``: what was thought before the words
its words                 ``msg_X``: the message; a tool's (``role`` tool, ``tool_call_id``) is an output, ``fco_X``
``tool_calls``            ``fc_X_N`` for each call, in the form of chat completions: ``{"id", "type", "function"}``
``compaction``            ``cmp_X`` alone: its words are a summary that stands for what is before it (below)
========================  ============================================================================================

So calls, outputs and thoughts are lines of ``messages.jsonl`` that Jan reads as messages, and what they are beside that
stands in fields that it passes over. An id leads to its message without looking through the others.

``compaction`` is ``{"kept": [...], "encrypted_content": "..."}``: the ids of the messages before it that it does not
stand for, and what clients have of it. A model is shown the newest one and what it keeps in the place of all before it
(``services/compacted.py``); the thread still has everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from janflask.files import ids
from janflask.storage.records import Message, MessageDraft
from janflask.storage.rounds import Call, read_kept

CALLS = "tool_calls"  # fields of a message
CALL_ID = "tool_call_id"
REASONING = "reasoning_content"
COMPACTION = "compaction"
TOOL = "tool"  # the role of an output

_REASONING, _CALL, _OUTPUT, _COMPACTION = "rs_", "fc_", "fco_", "cmp_"
_ITEM = re.compile(rf"(?:{_REASONING}|{_CALL}|{_OUTPUT}|{_COMPACTION})(.+)")
_NUMBER = re.compile(r"_\d+$")


class ItemKind(StrEnum):
    """In the words of the Responses API."""

    MESSAGE = "message"
    REASONING = "reasoning"
    CALL = "function_call"
    OUTPUT = "function_call_output"
    COMPACTION = "compaction"


@dataclass(frozen=True, slots=True)
class Item:
    """One item. ``text`` are its words, thoughts, output or summary; ``call`` is the call that it is or answers."""

    id: str
    kind: ItemKind
    message: Message
    text: str = ""
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class CallDraft:
    """A call that a client brings. ``id`` is what its output names."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class OutputDraft:
    """What a call gave back."""

    call_id: str
    output: str


@dataclass(frozen=True, slots=True)
class ReasoningDraft:
    """What a model thought."""

    text: str


@dataclass(frozen=True, slots=True)
class ItemReference:
    """One that is stored already, by its id."""

    id: str


@dataclass(frozen=True, slots=True)
class CompactionDraft:
    """What stands for all before it, sealed as a client got it: ``services/compaction.py`` makes drafts of it."""

    encrypted_content: str


@dataclass(frozen=True, slots=True)
class SummaryDraft:
    """A summary that stands for all before it but the ``leading`` items directly before it."""

    text: str
    encrypted_content: str
    leading: int = 0


ItemDraft = MessageDraft | CallDraft | OutputDraft | ReasoningDraft | ItemReference | CompactionDraft | SummaryDraft


def reasoning_id(message_id: str) -> str:
    """The id of the thoughts before a message."""
    return _REASONING + _tail(message_id)


def call_id(message_id: str, number: int) -> str:
    """The id of the item of one of a message's calls."""
    return f"{_CALL}{_tail(message_id)}_{number}"


def compaction_id(message_id: str) -> str:
    """The id of the item that a summary is."""
    return _COMPACTION + _tail(message_id)


def is_summary(message: Message) -> bool:
    """Whether it stands for what is before it."""
    return isinstance(message.extra.get(COMPACTION), Mapping)


def items_of(message: Message) -> Iterator[Item]:
    """Its items, in order. Raises ValueError for calls that nobody can read."""
    tail = _tail(message.id)
    if is_summary(message):
        yield Item(compaction_id(message.id), ItemKind.COMPACTION, message, message.text)
        return
    for number, past in enumerate(read_kept(message.extra)):
        for place, call in enumerate(past.calls):
            yield Item(f"{_CALL}{tail}_{number}_{place}", ItemKind.CALL, message, call=call)
            yield Item(f"{_OUTPUT}{tail}_{number}_{place}", ItemKind.OUTPUT, message, call.output or "", call)
    if isinstance(thought := message.extra.get(REASONING), str) and thought:
        yield Item(reasoning_id(message.id), ItemKind.REASONING, message, thought)
    answers = message.extra.get(CALL_ID)
    if message.role == TOOL:
        call = Call(id=answers if isinstance(answers, str) else "", name="", arguments="")
        yield Item(_OUTPUT + tail, ItemKind.OUTPUT, message, message.text, call)
    elif message.content:
        yield Item(message.id, ItemKind.MESSAGE, message, message.text)
    for number, call in enumerate(calls_of(message)):
        yield Item(call_id(message.id, number), ItemKind.CALL, message, call=call)


def calls_of(message: Message) -> tuple[Call, ...]:
    """Those that the message ends with. Raises ValueError for what nobody can read."""
    listed = message.extra.get(CALLS) or ()
    try:
        return tuple(
            Call(id=str(item["id"]), name=str(item["function"]["name"]), arguments=_arguments(item["function"]))
            for item in listed
        )
    except (TypeError, KeyError) as error:
        raise ValueError(f"{CALLS} of message {message.id} cannot be read") from error


def kept_calls(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """As a message keeps them."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]


def message_ids_of(item_id: str) -> tuple[str, ...]:
    """The ids of messages that may have the item, one for each way in which they may have been made."""
    match = _ITEM.fullmatch(item_id)
    if match is None:
        return (item_id,)
    tails = [match[1]]
    for _ in range(2):  # the numbers of a round and of a call
        tails.append(_NUMBER.sub("", tails[-1]))
    return tuple(dict.fromkeys(name for tail in tails for name in (ids.MESSAGE + tail, tail)))


def _tail(message_id: str) -> str:
    return message_id.removeprefix(ids.MESSAGE)


def _arguments(function: Mapping[str, Any]) -> str:
    arguments = function.get("arguments", "{}")
    if not isinstance(arguments, str):
        raise TypeError("arguments are no string")
    return arguments
