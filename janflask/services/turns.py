"""A thread's lines as a model is shown them: instructions, what was said, calls, and what these gave back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from janflask.errors import InvalidRequestError
from janflask.inference.parts import GAP, Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from janflask.inference.requests import ChatMessage
from janflask.services.compacted import shown, summary_turns
from janflask.storage.items import CALL_ID, NAME, REASONING, TOOL, calls_of, is_summary
from janflask.storage.records import Message, Run
from janflask.storage.rounds import Call, read_kept


def chat(run: Run, messages: Sequence[Message]) -> tuple[ChatMessage, ...]:
    """A run's conversation: the instructions lead, and the run's own rounds are the end.

    Raises InvalidRequestError for calls in ``messages`` that nobody can read.
    """
    leading = (ChatMessage.of("system", run.instructions),) if run.instructions else ()
    own = _Turns()
    for past in run.rounds:
        own.say(past.text, past.reasoning)
        own.call(past.calls)
        own.answer(past.calls)
    return (*leading, *turns_of(messages), *own.ended())


def turns_of(messages: Sequence[Message]) -> tuple[ChatMessage, ...]:
    """The lines of a thread as turns. Lines of the assistant that follow each other are one, with its thoughts, its
    words and its calls; only words behind words are another, unless there was a call between them. A summary stands for
    what is before it.

    What was thought on the way to calls is shown as long as neither an answer nor a user's words came after it, which
    is when it is of use to the model; anything else that was thought is not. Raises InvalidRequestError for calls that
    nobody can read.
    """
    turns = _Turns()
    for message in shown(messages):
        try:
            _add(turns, message)
        except ValueError as error:
            raise InvalidRequestError(str(error), param="messages") from error
    return _without_old_thoughts(turns.ended())


def _add(turns: _Turns, message: Message) -> None:
    if is_summary(message):
        turns.end()
        turns.done += summary_turns(message)
        return
    for past in read_kept(message.extra):
        if not past.message_id or past.message_id != turns.last:
            turns.end()
        turns.call(past.calls)
        turns.answer(past.calls)
    if message.role == "assistant":
        thought = message.extra.get(REASONING)
        turns.say(message.text, thought if isinstance(thought, str) else "")
        turns.call(calls_of(message))
        turns.last, turns.name = message.id, _text(message, NAME) or turns.name
        return
    turns.end()
    call, name = _text(message, CALL_ID), _text(message, NAME)
    turns.done.append(ChatMessage.of(message.role, message.text, tool_call_id=call, name=name))


def _text(message: Message, field: str) -> str | None:
    found = message.extra.get(field)
    return found if isinstance(found, str) else None


def _without_old_thoughts(turns: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    ended = [turn.role == "user" or (turn.role == "assistant" and not turn.calls) for turn in turns]
    newest = max((place for place, is_end in enumerate(ended) if is_end), default=-1)
    return tuple(
        turn
        if place > newest
        else replace(turn, parts=tuple(part for part in turn.parts if not isinstance(part, ReasoningPart)))
        for place, turn in enumerate(turns)
    )


@dataclass(slots=True)
class _Turns:
    """Those that are ``done``, and the assistant's that is still being gathered; ``last`` is its newest message."""

    done: list[ChatMessage] = field(default_factory=list)
    last: str = ""
    name: str | None = None
    _thoughts: list[str] = field(default_factory=list)
    _words: list[str] = field(default_factory=list)
    _calls: list[ToolCallPart] = field(default_factory=list)

    def say(self, text: str, thought: str) -> None:
        if text and self._words and not self._calls:
            self.end()
        self._thoughts += [thought] * bool(thought)
        self._words += [text] * bool(text)

    def call(self, calls: Iterable[Call]) -> None:
        self._calls += [ToolCallPart(call.id, call.name, call.arguments) for call in calls]

    def answer(self, calls: Iterable[Call]) -> None:
        """What calls of the turn gave back, which ends it."""
        self.end()
        for call in calls:
            if call.output is not None:  # it was deleted
                self.done.append(ChatMessage(role=TOOL, parts=(ToolResultPart(call.output, call.id),)))

    def end(self) -> None:
        parts: list[Part] = [TextPart(GAP.join(self._words))] if self._words else []
        if self._calls and self._thoughts:
            parts.insert(0, ReasoningPart(GAP.join(self._thoughts)))
        if parts or self._calls:
            self.done.append(ChatMessage(role="assistant", parts=(*parts, *self._calls), name=self.name))
        self._thoughts, self._words, self._calls, self.last, self.name = [], [], [], "", None

    def ended(self) -> tuple[ChatMessage, ...]:
        self.end()
        return tuple(self.done)
