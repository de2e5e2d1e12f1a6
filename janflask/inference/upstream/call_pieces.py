"""Calls of tools as upstreams tell them, in our form: each has its id and its name with its first piece, and once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from janflask.inference.deltas import ToolCallDelta
from janflask.inference.upstream.answers import CallPiece, ChatPiece
from janflask.parsing.call_parser import new_call_id


@dataclass(slots=True)
class _Call:
    theirs: str | None  # the id that it has there
    name: str | None = None  # None: not told yet
    arguments: list[str] = field(default_factory=list)


class CallReader:
    """Reads the calls of one choice. Not ``parallel``: the first one alone is told."""

    def __init__(self, index: int, *, parallel: bool) -> None:
        self._index = index
        self._parallel = parallel
        self._calls: list[_Call] = []
        self._ids: set[str] = set()

    @property
    def is_cut(self) -> bool:
        """The last call's arguments are not whole."""
        try:
            json.loads("".join(self._calls[-1].arguments))
        except (ValueError, RecursionError):
            return True
        return False

    def read(self, delta: ChatPiece) -> list[ToolCallDelta]:
        """What is new of the calls. Raises ValueError for what cannot be one."""
        pieces: Sequence[CallPiece] = delta.tool_calls or ()
        if not pieces and delta.function_call is not None:  # some servers tell a call in both forms
            pieces = (CallPiece(index=0, function=delta.function_call),)
        deltas = [found for piece in pieces if (found := self._piece(piece)) is not None]
        return deltas if self._parallel else [found for found in deltas if found.call == 0]

    def finish(self) -> None:
        """The choice has ended. Raises ValueError for a call without a name."""
        if any(call.name is None for call in self._calls):
            raise ValueError("a call without a name")

    def _piece(self, piece: CallPiece) -> ToolCallDelta | None:
        number = self._number(piece)
        if number == len(self._calls):
            self._calls.append(_Call(piece.id or None))
        call = self._calls[number]
        name = (piece.function.name if piece.function is not None else None) or None
        arguments = (piece.function.arguments if piece.function is not None else None) or ""
        if call.name is None and name is not None:
            call.name = name
            call.arguments.append(arguments)
            return ToolCallDelta(self._index, number, self._id(call.theirs or piece.id), name, arguments)
        if name not in (None, call.name):
            raise ValueError(f"a call of {call.name!r} that becomes one of {name!r}")
        if not arguments:
            return None
        if call.name is None:
            raise ValueError("arguments of a call without a name")
        call.arguments.append(arguments)
        return ToolCallDelta(self._index, number, arguments=arguments)

    def _number(self, piece: CallPiece) -> int:
        """Which call it belongs to. Calls that are told as a whole may have no index, or all of them the same one."""
        last = len(self._calls) - 1
        number = max(last, 0) if piece.index is None else piece.index
        if not 0 <= number <= last + 1:
            raise ValueError(f"call {number} behind {last + 1} calls")
        is_named = piece.function is not None and piece.function.name
        if number > last or not is_named:
            return number
        theirs = self._calls[number].theirs
        is_another = piece.id != theirs if theirs and piece.id else piece.index is None
        return last + 1 if is_another else number

    def _id(self, theirs: str | None) -> str:
        """Theirs, unless there is none or another call has it."""
        found = theirs if theirs and theirs not in self._ids else new_call_id()
        self._ids.add(found)
        return found
