"""What a context overflow says: the words that clients look for, and true numbers."""

from __future__ import annotations

import re

import pytest

from janflask.errors import ContextLengthExceededError

# Each client that decides by the message, and what it looks for (lower case where it folds).
PHRASES = {
    "langchain-openai 1.7, litellm 1.110, Claude Code": "prompt is too long",
    "langchain-openai 1.7, of an error within a stream": "exceeds the context window",
    "litellm 1.110": "this model's maximum context length is",
    "pydantic-ai 2.68": "maximum context length",
}


@pytest.mark.parametrize("client", PHRASES)
def test_the_words_that_clients_know(client: str) -> None:
    assert PHRASES[client] in ContextLengthExceededError.of(600, 512, "Shorten it").message


@pytest.mark.parametrize(("tokens", "context", "most"), [(600, 512, 512), (513, 512, 512), (512, 512, 511)])
def test_the_numbers_are_true(tokens: int, context: int, most: int) -> None:
    error = ContextLengthExceededError.of(tokens, context, "Shorten it", param="prompt")
    too_long = re.search(r"prompt is too long: (\d+) tokens > (\d+) maximum", error.message)
    length = re.search(r"maximum context length is (\d+) tokens", error.message)
    assert too_long is not None
    assert length is not None
    assert [int(number) for number in too_long.groups()] == [tokens, most]
    assert int(length[1]) == context
    assert tokens > most
    assert (error.code, error.param, error.status) == ("context_length_exceeded", "prompt", 400)
    assert error.message.endswith(". Shorten it")
