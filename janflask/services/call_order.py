"""Whether calls and their outputs come in an order that can be shown to a model."""

from __future__ import annotations

from collections.abc import Iterable, Reversible
from dataclasses import dataclass, field
from enum import Enum, auto

from janflask.errors import InvalidRequestError
from janflask.storage.items import CallDraft, ItemDraft, ItemKind, OutputDraft, readable_items
from janflask.storage.records import Message, MessageDraft


class _State(Enum):
    """Of a call by its id."""

    WAITING = auto()
    ANSWERED = auto()
    UNSEEN = auto()  # there is an output, and its call must have come earlier


@dataclass(slots=True)
class CallOrder:
    """What came of the calls so far; ``asked`` are those since a user said something.

    Ids may come again, as those of some servers do in each turn: then the newest call counts.
    """

    is_known: bool  # all that came before
    states: dict[str, _State] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, before: Iterable[Message] | None) -> CallOrder:
        """Behind these messages; None: nobody knows them."""
        calls = cls(is_known=before is not None)
        for item in (item for line in before or () for item in readable_items(line)):
            if item.call is not None:
                is_call = item.kind is ItemKind.CALL
                calls.states[item.call.id] = _State.WAITING if is_call else _State.ANSWERED
        return calls

    @classmethod
    def behind(cls, before: Reversible[Message] | None, drafts: Iterable[ItemDraft]) -> CallOrder:
        """``of`` as far as ``drafts`` ask for it: the calls of their outputs, which mostly are among the newest."""
        calls = cls(is_known=before is not None)
        wanted, called = set[str](), set[str]()
        for draft in drafts:
            if isinstance(draft, CallDraft):
                called.add(draft.id)
            elif isinstance(draft, OutputDraft) and draft.call_id not in called:
                wanted.add(draft.call_id)
        lines = reversed(before) if before is not None and wanted else iter(())
        for item in (item for line in lines for item in reversed(readable_items(line))):
            if item.call is not None and item.call.id in wanted:
                wanted.remove(item.call.id)
                calls.states[item.call.id] = _State.WAITING if item.kind is ItemKind.CALL else _State.ANSWERED
                if not wanted:
                    break
        return calls

    @property
    def waiting(self) -> tuple[str, ...]:
        """The calls that have no output yet, by the order in which their ids came first."""
        return tuple(call_id for call_id, state in self.states.items() if state is _State.WAITING)

    def add(self, draft: ItemDraft, place: str) -> None:
        """Goes on. Raises InvalidRequestError, naming ``place``, for what cannot come now."""
        match draft:
            case MessageDraft(role="user"):
                self.asked.clear()
            case CallDraft(id=call_id):
                self._call(call_id, place)
            case OutputDraft(call_id=call_id):
                self._answer(call_id, place)

    def _call(self, call_id: str, place: str) -> None:
        state = self.states.get(call_id)
        if state is _State.WAITING and call_id in self.asked:
            raise _refused(place, f"has the call_id {call_id[:128]!r} of another call that has no output yet")
        if state is _State.UNSEEN:
            raise _refused(place, f"is the call {call_id[:128]!r}, whose output came before it: put it first")
        self.states[call_id] = _State.WAITING
        self.asked.add(call_id)

    def _answer(self, call_id: str, place: str) -> None:
        state = self.states.get(call_id)
        if state in (_State.ANSWERED, _State.UNSEEN):
            raise _refused(place, f"is a second output of the call {call_id[:128]!r}: leave it out")
        if state is None and self.is_known:
            words = f"No tool call found for function call output with call_id {call_id[:128]}."  # OpenAI's
            raise _refused(place, f"is an output of a call that does not come before it: {words}")
        self.states[call_id] = _State.UNSEEN if state is None else _State.ANSWERED


def _refused(place: str, reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"{place} {reason}", param=place, code="invalid_value")
