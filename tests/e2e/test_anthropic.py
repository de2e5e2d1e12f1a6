"""Anthropic's own SDK against the server: text, streamed and not, how it ends, what is cached, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from tests.e2e.server import MODEL, Server

ASKED: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 24,
    "system": "You count.",
    "messages": [{"role": "user", "content": "Count to twenty: one, two, three,"}],
    "extra_body": {"temperature": 0},
}


@pytest.fixture
def claude(server: Server) -> Iterator[anthropic.Anthropic]:
    with server.claude() as client:
        yield client


def said(message: anthropic.types.Message) -> str:
    assert [block.type for block in message.content] == ["text"]
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message_and_the_same_one_streamed(claude: anthropic.Anthropic) -> None:
    whole = claude.messages.create(**ASKED)
    with claude.messages.stream(**ASKED) as stream:
        pieces = list(stream.text_stream)
        streamed = stream.get_final_message()
    assert said(whole) == said(streamed) == "".join(pieces)
    assert len(pieces) > 3
    assert whole.stop_reason == streamed.stop_reason
    assert 1 <= whole.usage.output_tokens <= 24
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    total = claude.messages.count_tokens(**{name: ASKED[name] for name in ("model", "system", "messages")}).input_tokens
    for usage in (whole.usage, streamed.usage):
        assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == total
    assert (streamed.usage.cache_read_input_tokens or 0) > total // 2


def test_how_it_ends(claude: anthropic.Anthropic) -> None:
    cut = claude.messages.create(**{**ASKED, "max_tokens": 2})
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 2)
    text = said(claude.messages.create(**ASKED))
    word = text[len(text) // 2 :][:3]
    stopped = claude.messages.create(**ASKED, stop_sequences=["never said", word])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", word)
    assert said(stopped) == text.partition(word)[0]


def test_an_answer_that_was_begun(claude: anthropic.Anthropic) -> None:
    begun = {"role": "assistant", "content": "one, two, three, four, five, six,"}
    message = claude.messages.create(**{**ASKED, "messages": [*ASKED["messages"], begun]})
    assert "seven" in said(message)
    assert "three" not in said(message)


def test_a_line_that_changes_costs_no_prefix(claude: anthropic.Anthropic) -> None:
    """Claude Code's first line of the system, another one in each request."""

    def ask(number: int) -> anthropic.types.Usage:
        billing = f"x-anthropic-billing-header: cc_version=2.1.{number}; cc_entrypoint=cli; cch={number:05x};"
        system: Any = [{"type": "text", "text": billing}, {"type": "text", "text": "You are brief. " * 40}]
        return claude.messages.create(**{**ASKED, "system": system, "max_tokens": 1}).usage

    first, second = ask(1), ask(2)
    assert second.input_tokens == 1
    assert second.input_tokens + (second.cache_read_input_tokens or 0) == (
        first.input_tokens + (first.cache_read_input_tokens or 0)
    )


def test_only_the_prompt(claude: anthropic.Anthropic) -> None:
    asked = {**ASKED, "system": "Be kind. " * 50}
    warmed = claude.messages.create(**{**asked, "max_tokens": 0})
    assert (warmed.content, warmed.stop_reason, warmed.usage.output_tokens) == ([], "max_tokens", 0)
    assert claude.messages.create(**asked).usage.input_tokens == 1


def test_a_conversation_of_the_store(claude: anthropic.Anthropic, server: Server) -> None:
    """One that Jan's routes began goes on here, and what is said here is in it."""
    begun = {"messages": [{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello!"}]}
    thread = server.post("/v1/threads", json=begun).json()["id"]
    new: Any = [{"role": "user", "content": "What is my name?"}]
    asked = {**ASKED, "messages": new, "extra_body": {"temperature": 0, "conversation": thread}}
    whole = claude.messages.create(**asked)
    assert whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0) > 30  # with all that came before
    named = {**asked, "extra_body": {"temperature": 0, "conversation": thread.replace("thread_", "conv_")}}
    with claude.messages.stream(**named) as stream:
        streamed = stream.get_final_message()
    listed = server.get(f"/v1/threads/{thread}/messages?order=asc").json()["data"]
    assert [message["role"] for message in listed] == ["user", "assistant"] * 3
    assert [message["id"] for message in listed][3::2] == [whole.id, streamed.id]
    assert [message["content"][0]["text"]["value"] for message in listed][3::2] == [said(whole), said(streamed)]
    with pytest.raises(anthropic.NotFoundError) as missing:
        claude.messages.create(**{**asked, "extra_body": {"conversation": "conv_nobody"}})
    assert missing.value.details is not None


def test_many_at_once(server: Server) -> None:
    async def ask() -> list[anthropic.types.Message]:
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(client.messages.create(**ASKED) for _ in range(4)))

    assert all(said(message) for message in asyncio.run(ask()))


def test_errors(claude: anthropic.Anthropic, server: Server) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        claude.messages.create(**{**ASKED, "model": "nobody"})
    assert (missing.value.type, missing.value.error_code) == ("not_found_error", "model_not_found")
    with pytest.raises(anthropic.BadRequestError) as long:
        claude.messages.create(**{**ASKED, "system": "word " * 5000})
    assert (long.value.api_message or "").startswith("prompt is too long: ")
    assert long.value.request_id
    assert httpx.head(server.url).status_code == 200
