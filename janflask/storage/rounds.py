"""Rounds of a run: what a model says before it wants functions called, its calls, and what these gave back.

A run's rounds stand in its own file while it is under way and afterwards (its steps). The messages that it makes keep
them, too, so that later runs of the thread can show them: each message in ``tool_rounds`` the calls that came before
it. That field is no part of what clients are told, and of no account to programs that do not know it::

    {"message_id": null, "calls": [{"id": "call_1", "name": "look", "arguments": "{}", "output": "a cat"}]}

``message_id`` names the message, if there is one, that said something in the same turn as the calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from janflask.decoding import convert

FIELD = "tool_rounds"  # of a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function that a model wants called; ``arguments`` is JSON as it wrote it, ``output`` None until it is there."""

    id: str
    name: str
    arguments: str
    output: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One that ended with calls. ``step_id`` is their step's; the message of ``text`` is there if ``replied_ms`` is."""

    calls: tuple[Call, ...]
    step_id: str
    ended_ms: int  # when the calls were wanted
    started_ms: int | None = None
    answered_ms: int | None = None  # when all outputs had come
    message_id: str = ""
    message_step_id: str = ""
    replied_ms: int | None = None
    text: str = ""
    reasoning: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0  # of the completion

    def answered(self, outputs: Mapping[str, str], now_ms: int) -> Round:
        """With the outputs, by the ids of the calls: there is one for each."""
        calls = tuple(replace(call, output=outputs[call.id]) for call in self.calls)
        return replace(self, calls=calls, answered_ms=now_ms)

    @property
    def size(self) -> int:
        """Characters of what it holds."""
        texts = [part for call in self.calls for part in (call.name, call.arguments, call.output or "")]
        return sum(map(len, (self.text, self.reasoning, *texts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRound:
    """One as a message keeps it."""

    calls: tuple[Call, ...]
    message_id: str | None = None


def kept(rounds: Iterable[Round]) -> list[dict[str, Any]]:
    """What a message says in ``tool_rounds`` of those before it; calls that nobody answered are not among them."""
    return [
        {
            "message_id": item.message_id if item.replied_ms is not None else None,
            "calls": [msgspec.to_builtins(call) for call in item.calls],
        }
        for item in rounds
        if item.answered_ms is not None
    ]


def read_kept(extra: Mapping[str, Any]) -> Sequence[KeptRound]:
    """Those of a message's unknown fields. Raises ValueError for what nobody can read."""
    if not extra.get(FIELD):
        return ()
    return convert(extra[FIELD], tuple[KeptRound, ...])  # its error is a ValueError


def renamed_rounds(extra: Mapping[str, Any], new: Mapping[str, str]) -> Mapping[str, Any]:
    """A message's unknown fields when the messages that its rounds name get ``new`` ids, by the old ones."""
    rounds = extra.get(FIELD)
    return {**extra, FIELD: [_renamed(item, new) for item in rounds]} if isinstance(rounds, list) else extra


def _renamed(item: Any, new: Mapping[str, str]) -> Any:
    named = item.get("message_id") if isinstance(item, Mapping) else None
    return {**item, "message_id": new[named]} if isinstance(named, str) and named in new else item
