"""A conversation as a chat template can take it.

Many templates take less than a conversation may hold: no system message, or only one at the start; no two turns of the
same side in a row (a failed run leaves two of the user's); no assistant that speaks first. ``shapes`` gives the same
words in ever plainer conversations. Whoever lays out a prompt takes the first that the template takes whole, so that
nothing is changed which need not be.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from janflask.inference.layout.template_layouts import said_with_calls, told_result, told_tools
from janflask.inference.layout.template_probe import BLOCK, CallForms, Forms, text_parts
from janflask.inference.parts import GAP, ReasoningPart, TextPart, ToolCallPart
from janflask.inference.requests import ChatMessage, Tool

Conversation = tuple[ChatMessage, ...]


def as_given(messages: Sequence[ChatMessage]) -> Conversation:
    """With the role that templates know: OpenAI's newer name for system is developer."""
    return tuple(replace(message, role="system") if message.role == "developer" else message for message in messages)


def with_told_tools(messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> Conversation:
    """For a layout that has no place for tools: told by the system, called by the assistant, answered by the user."""
    turns = [_in_words(message) for message in as_given(messages)]
    if tools and turns[:1] and turns[0].role == "system":
        turns[0] = turns[0].saying(GAP.join(filter(None, (turns[0].text, told_tools(tools)))))
    elif tools:
        turns.insert(0, ChatMessage.of("system", told_tools(tools)))
    return tuple(
        ChatMessage.of("user", told_result(turn.text), name=turn.name) if turn.role == "tool" else turn
        for turn in turns
    )


def shapes(messages: Sequence[ChatMessage], *, ask: bool) -> Iterator[Conversation]:
    """The conversation as it is, then plainer and plainer; every word stays, and in its order.

    Each step depends on the messages' roles, names and which of them are empty, not on their words. With ``ask`` the
    last shape ends with the user's side.
    """
    given = as_given(messages)
    yield given
    alternating = _joined(given)
    yield alternating
    leading = _joined(_as_user(alternating, keep_first=True))  # one system message at most, at the start
    yield leading
    yield _begun_by_user(leading)
    plain = _begun_by_user(_joined(_as_user(leading, keep_first=False)))  # user and assistant alone
    yield plain
    if ask and plain and plain[-1].role == "assistant":
        yield (*plain, _silent_user())


def entries(conversation: Conversation, forms: Forms) -> list[dict[str, Any]]:
    """The messages as the template reads them; a tool's result knows its tool's name by the call that it answers."""
    names = {call.id: call.name for message in conversation for call in message.calls}
    if not forms.calls.calls:
        conversation = tuple(_in_words(message) for message in conversation)
    return [_entry(message, forms, names) for message in conversation]


def _in_words(message: ChatMessage) -> ChatMessage:
    """Calls and their results as the models of most other templates write and read them."""
    if message.calls:
        words = said_with_calls(message.text, message.calls)
        thoughts = tuple(part for part in message.parts if isinstance(part, ReasoningPart))
        return replace(message, parts=(*thoughts, TextPart(words)))
    return message


def _joined(messages: Conversation) -> Conversation:
    """Turns of one side in a row become one; a turn in which nothing was said goes, unless there are no others."""
    joined: list[ChatMessage] = []
    for message in messages:
        if not (message.text or message.reasoning or message.calls) and message.role != "tool":
            continue
        is_turn = message.role != "tool" and not message.calls
        if joined and is_turn and joined[-1].role == message.role and not joined[-1].calls:
            joined[-1] = _both(joined[-1], message)
        else:
            joined.append(message)
    return tuple(joined) or messages


def _both(first: ChatMessage, second: ChatMessage) -> ChatMessage:
    return ChatMessage.of(
        first.role,
        GAP.join(filter(None, (first.text, second.text))),
        reasoning=GAP.join(filter(None, (first.reasoning, second.reasoning))) or None,
        name=first.name if first.name == second.name else None,
        tool_call_id=first.tool_call_id,
    )


def _as_user(messages: Conversation, *, keep_first: bool) -> Conversation:
    """What system messages say, said by the user at the same place."""
    return tuple(
        replace(message, role="user") if message.role == "system" and not (keep_first and number == 0) else message
        for number, message in enumerate(messages)
    )


def _begun_by_user(messages: Conversation) -> Conversation:
    start = 1 if messages and messages[0].role == "system" else 0
    if len(messages) > start and messages[start].role == "assistant":
        return (*messages[:start], _silent_user(), *messages[start:])
    return messages


def _silent_user() -> ChatMessage:
    return ChatMessage.of("user", "")


def _entry(message: ChatMessage, forms: Forms, names: Mapping[str, str]) -> dict[str, Any]:
    content: Any = message.text
    in_block = message.reasoning is not None and forms.reasoning == BLOCK
    if in_block or message.role in forms.parts:
        content = text_parts(message.text)
    if in_block:
        content = [{"type": "thinking", "thinking": message.reasoning}, *content]
    entry = {"role": message.role, "content": content}
    if message.reasoning is not None and not in_block:
        entry[forms.reasoning] = message.reasoning
    if message.calls:
        entry["tool_calls"] = [_call(call, forms.calls) for call in message.calls]
        if forms.calls.null_content and not message.text:
            entry["content"] = None
    call_id = message.tool_call_id
    name = message.name or (names.get(call_id) if call_id else None)
    if name is not None:
        entry["name"] = name
    if call_id is not None:
        entry["tool_call_id"] = _short(call_id) if forms.calls.short_ids else call_id
    return entry


def _call(call: ToolCallPart, forms: CallForms) -> dict[str, Any]:
    arguments = call.arguments if forms.as_text else _object(call.arguments)
    call_id = _short(call.id) if forms.short_ids else call.id
    return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _object(arguments: str) -> Any:
    """What a model wrote and is no object (``max_tokens`` cut it) is shown as the text that it is."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return {"arguments": arguments}
    return value if isinstance(value, dict) else {"arguments": value}


def _short(call_id: str) -> str:
    """Nine letters and digits, the same ones for the same id."""
    if re.fullmatch(r"[a-zA-Z0-9]{9}", call_id):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]
