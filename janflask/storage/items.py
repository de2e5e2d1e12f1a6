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
stands in fields that it passes over. An id leads to its message without looking through the others, and stays when
another item of the message is deleted: a call that is not at the place of its number any more says so (``item``).

``compaction`` is ``{"kept": [...], "encrypted_content": "..."}``: the ids of the messages before it that it does not
stand for, and what clients have of it. A model is shown the newest one and what it keeps in the place of all before it
(``services/compacted.py``); the thread still has everything.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from janflask.files import ids
from janflask.storage.records import Message, MessageDraft
from janflask.storage.rounds import FIELD, Call, read_kept, renamed_rounds

CALLS = "tool_calls"  # fields of a message
CALL_ID = "tool_call_id"
REASONING = "reasoning_content"
COMPACTION = "compaction"
KEPT, _SEALED = "kept", "encrypted_content"  # of a compaction
NAME = "name"  # who of its role speaks, where a chat says so
TOOL = "tool"  # the role of an output

_REASONING, _CALL, _OUTPUT, _COMPACTION = "rs_", "fc_", "fco_", "cmp_"
_ITEM_NUMBER = "item"  # of a call: its number in ids, where that is not its place
_ITEM = re.compile(rf"(?:{_REASONING}|{_CALL}|{_OUTPUT}|{_COMPACTION})(.+)")
_NUMBER = re.compile(r"_\d+$")

log = logging.getLogger(__name__)


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
class SealedDraft:
    """One that came sealed (``services.seals``), and has to be opened first. ``kind`` is what it is."""

    kind: str
    sealed: str


@dataclass(frozen=True, slots=True)
class SummaryDraft:
    """A summary that stands for all before it but the ``leading`` items directly before it."""

    text: str
    encrypted_content: str
    leading: int = 0


ItemDraft = MessageDraft | CallDraft | OutputDraft | ReasoningDraft | ItemReference | SealedDraft | SummaryDraft


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


def summary_field(kept: Iterable[str], sealed: str) -> dict[str, Any]:
    """The field that makes a message a summary: ``kept`` are the ids of the messages that it does not stand for."""
    return {COMPACTION: {KEPT: list(kept), _SEALED: sealed}}


def sealed_of(summary: Message) -> str:
    """What clients have of a summary; empty if that was taken out of the file."""
    return str(summary.extra[COMPACTION].get(_SEALED, ""))


def items_of(message: Message) -> Iterator[Item]:
    """Its items, in order. Raises ValueError for calls that nobody can read."""
    tail = _tail(message.id)
    if is_summary(message):
        yield Item(compaction_id(message.id), ItemKind.COMPACTION, message, message.text)
        return
    yield from _round_items(message)
    if isinstance(thought := message.extra.get(REASONING), str) and thought:
        yield Item(reasoning_id(message.id), ItemKind.REASONING, message, thought)
    if message.role == TOOL:
        answers = message.extra.get(CALL_ID)
        call = Call(id=answers if isinstance(answers, str) else "", name="", arguments="")
        yield Item(_OUTPUT + tail, ItemKind.OUTPUT, message, message.text, call)
    elif _has_words(message):
        yield Item(message.id, ItemKind.MESSAGE, message, message.text)
    for number, call in zip(_numbers(message.extra.get(CALLS) or ()), calls_of(message), strict=True):
        yield Item(call_id(message.id, number), ItemKind.CALL, message, call=call)


def readable_items(message: Message) -> list[Item]:
    """The items of a message; what nobody can read is left out, and logged."""
    try:
        return list(items_of(message))
    except ValueError as error:
        log.error("message %s of thread %s is not seen as items: %s", message.id, message.thread_id, error)
        return []


def _round_items(message: Message) -> Iterator[Item]:
    tail = _tail(message.id)
    for number, past in enumerate(read_kept(message.extra)):
        for place, call in zip(_numbers(message.extra[FIELD][number]["calls"]), past.calls, strict=True):
            yield Item(f"{_CALL}{tail}_{number}_{place}", ItemKind.CALL, message, call=call)
            if call.output is not None:
                yield Item(f"{_OUTPUT}{tail}_{number}_{place}", ItemKind.OUTPUT, message, call.output, call)


def _has_words(message: Message) -> bool:
    """An answer that is nothing but calls or thoughts has a text part that is empty, and is no message."""
    if message.role != "assistant" or not (message.extra.get(CALLS) or message.extra.get(REASONING)):
        return bool(message.content)
    return bool(message.text) or any(part.get("type") != "text" for part in message.content)


def _numbers(calls: Iterable[Mapping[str, Any]]) -> Iterator[int]:
    """Of a message's calls, as they stand in ids."""
    for place, call in enumerate(calls):
        number = call.get(_ITEM_NUMBER, place)
        yield number if type(number) is int else place


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
    made_elsewhere = item_id  # a message may have any id
    return tuple(dict.fromkeys((*(name for tail in tails for name in (ids.MESSAGE + tail, tail)), made_elsewhere)))


def place_in(message_id: str, item_id: str) -> tuple[int, ...] | None:
    """What the items of a message are ordered by, whether this one is still there; None if it cannot be one of them."""
    tail = re.escape(_tail(message_id))
    if item_id in (message_id, compaction_id(message_id), _OUTPUT + _tail(message_id)):
        return (2,)
    if item_id == reasoning_id(message_id):
        return (1,)
    if (match := re.fullmatch(rf"{_CALL}{tail}_(\d{{1,9}})", item_id)) is not None:
        return (3, int(match[1]))
    if (match := re.fullmatch(rf"({_CALL}|{_OUTPUT}){tail}_(\d{{1,9}})_(\d{{1,9}})", item_id)) is not None:
        return (0, int(match[2]), int(match[3]), int(match[1] == _OUTPUT))
    return None


def without(message: Message, item_id: str) -> Message | None:
    """The message without one of its items; None: there is no other. A call in ``tool_rounds`` goes with its output."""
    left = _without(message, item_id)
    is_one = message.role == TOOL or is_summary(message)
    return left if not is_one and any(True for _ in items_of(left)) else None


def _without(message: Message, item_id: str) -> Message:
    extra = dict(message.extra)
    place = place_in(message.id, item_id)
    if place == (1,):
        del extra[REASONING]
    elif place == (2,):
        return replace(message, content=())
    elif place is not None and place[0] == 3:
        extra[CALLS] = [call for number, call in _placed(extra[CALLS]) if number != place[1]]
    elif place is not None:
        rounds = [dict(past) for past in extra[FIELD]]
        rounds[place[1]]["calls"] = [
            {**call, "output": None} if number == place[2] else call
            for number, call in _placed(rounds[place[1]]["calls"])
            if number != place[2] or place[3]
        ]
        extra[FIELD] = rounds
    return replace(message, extra=extra)


def with_message_ids(extra: Mapping[str, Any], new: Mapping[str, str]) -> Mapping[str, Any]:
    """A message's unknown fields when messages of its thread get ``new`` ids, by the old ones."""
    extra = renamed_rounds(extra, new)
    compaction = extra.get(COMPACTION)
    named = compaction.get(KEPT) if isinstance(compaction, Mapping) else None
    if not isinstance(compaction, Mapping) or not isinstance(named, list | tuple):
        return extra
    kept = [new.get(name, name) if isinstance(name, str) else name for name in named]
    return {**extra, COMPACTION: {**compaction, KEPT: kept}}


def _placed(calls: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Each with its number, which it keeps wherever it stands from now on."""
    return [(number, {**call, _ITEM_NUMBER: number}) for number, call in zip(_numbers(calls), calls, strict=True)]


def _tail(message_id: str) -> str:
    return message_id.removeprefix(ids.MESSAGE)


def _arguments(function: Mapping[str, Any]) -> str:
    arguments = function.get("arguments", "{}")
    if not isinstance(arguments, str):
        raise TypeError("arguments are no string")
    return arguments
