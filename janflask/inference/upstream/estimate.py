"""About how many tokens a text has, for servers that don't count."""

from __future__ import annotations

import json
from collections.abc import Sequence

from janflask.inference.requests import ChatMessage, Tool

BYTES = 3  # of UTF-8 for a token, which has about four in English: rather too many tokens than too few
PER_MESSAGE = 8  # what a chat template puts around one


def tokens_of(text: str) -> int:
    """Of a text, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES)


def tokens_of_messages(messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
    """Of a conversation, and of what the model is shown of its tools."""
    return sum(tokens_of(words_of(message)) for message in messages) + tokens_around(messages, tools)


def tokens_around(messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> int:
    """Of all that is not said by anybody."""
    told = sum(tokens_of(json.dumps(tool.as_told(), ensure_ascii=False)) for tool in tools)
    return told + PER_MESSAGE * len(messages)


def words_of(message: ChatMessage) -> str:
    """What is said in a turn, and called."""
    return "\n".join([message.text, *(f"{call.name} {call.arguments}" for call in message.calls)])


def tokens_of_prompt(prompt: str | tuple[int, ...]) -> int:
    """Of a prompt that may be tokens already."""
    return tokens_of(prompt) if isinstance(prompt, str) else len(prompt)
