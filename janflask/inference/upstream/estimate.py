"""About how many tokens a text has, for servers that don't count."""

from __future__ import annotations

from collections.abc import Iterable

from janflask.inference.requests import ChatMessage

BYTES = 3  # of UTF-8 for a token, which has about four in English: rather too many tokens than too few
PER_MESSAGE = 8  # what a chat template puts around one


def tokens_of(text: str) -> int:
    """Of a text, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES)


def tokens_of_messages(messages: Iterable[ChatMessage]) -> int:
    """Of a conversation."""
    return sum(tokens_of(message.text) + PER_MESSAGE for message in messages)


def tokens_of_prompt(prompt: str | tuple[int, ...]) -> int:
    """Of a prompt that may be tokens already."""
    return tokens_of(prompt) if isinstance(prompt, str) else len(prompt)
