"""A run's conversation as a model is shown it: instructions, messages, and calls with what they gave back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from janflask.inference.parts import Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from janflask.inference.requests import ChatMessage
from janflask.storage.records import Message, Run
from janflask.storage.rounds import Call, read_kept


def chat(run: Run, messages: Sequence[Message]) -> tuple[ChatMessage, ...]:
    """The instructions lead, and the run's own rounds are the end.

    Of these rounds the model sees what it thought, too, which is still of use to it; of earlier answers it does not.
    """
    leading = (ChatMessage.of("system", run.instructions),) if run.instructions else ()
    own = (turn for past in run.rounds for turn in _round(past.calls, _said(past.reasoning, past.text)))
    return (*leading, *_said_before(messages), *own)


def _said_before(messages: Sequence[Message]) -> list[ChatMessage]:
    turns: list[ChatMessage] = []
    last = ""  # the assistant's message whose turn is the newest one
    for message in messages:
        for past in read_kept(message.extra):
            words = turns.pop().parts if past.message_id and past.message_id == last else ()
            turns += _round(past.calls, words)
            last = ""
        if message.text or message.role != "assistant":
            turns.append(_turn(message))
            last = message.id if message.role == "assistant" else ""
    return turns


def _round(calls: Sequence[Call], words: tuple[Part, ...]) -> Iterator[ChatMessage]:
    wanted = tuple(ToolCallPart(call.id, call.name, call.arguments) for call in calls)
    yield ChatMessage(role="assistant", parts=(*words, *wanted))
    for call in calls:
        yield ChatMessage(role="tool", parts=(ToolResultPart(call.output or "", call.id),))


def _said(reasoning: str, text: str) -> tuple[Part, ...]:
    thought = (ReasoningPart(reasoning),) if reasoning else ()
    return (*thought, TextPart(text)) if text else thought


def _turn(message: Message) -> ChatMessage:
    call = message.extra.get("tool_call_id")
    return ChatMessage.of(message.role, message.text, tool_call_id=call if isinstance(call, str) else None)
