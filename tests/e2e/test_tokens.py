"""Tokens of the real model: there and back again, and counted as a chat counts them."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.e2e.server import MODEL, Server

TEXTS = [
    "",
    "Hello world",
    "  two  spaces\n\n\ttab",
    "Grüße, 世界 👩\u200d🚀🦜",
    "<|im_start|>user\nHi<|im_end|>",
    "\x00\x7f",
]
CHATS: list[Any] = [
    [{"role": "user", "content": "What is 2+2?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße 👋 <|im_end|>"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
]


def ask(server: Server, path: str, **body: Any) -> Any:
    answer = server.post(f"/v1/{path}", json={"model": MODEL, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("parse_special", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_there_and_back(server: Server, text: str, parse_special: bool) -> None:
    answer = ask(server, "tokenize", content=text, parse_special=parse_special)
    assert answer["count"] == len(answer["tokens"])
    assert ask(server, "detokenize", tokens=answer["tokens"]) == {"content": text}
    pieces = ask(server, "tokenize", content=text, parse_special=parse_special, with_pieces=True)["tokens"]
    assert [piece["id"] for piece in pieces] == answer["tokens"]
    raw = (p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in pieces)
    assert b"".join(raw).decode() == text


def test_a_character_cut_between_tokens(server: Server) -> None:
    pieces = ask(server, "tokenize", content="🦜", with_pieces=True)["tokens"]
    assert len(pieces) > 1
    assert any(isinstance(piece["piece"], list) for piece in pieces)
    half = ask(server, "detokenize", tokens=[pieces[0]["id"]])["content"]
    assert half
    assert set(half) == {"\ufffd"}


def test_special_tokens_as_text(server: Server) -> None:
    assert ask(server, "tokenize", content="<|im_end|>")["count"] == 1
    assert ask(server, "tokenize", content="<|im_end|>", parse_special=False)["count"] > 1


@pytest.mark.parametrize("messages", CHATS)
def test_a_chat_counts_as_its_prompt(server: Server, sdk: openai.OpenAI, messages: Any) -> None:
    laid_out = ask(server, "apply-template", messages=messages, tokenize=True)
    answer = sdk.chat.completions.create(model=MODEL, messages=messages, max_tokens=1)
    assert answer.usage is not None
    assert laid_out["count"] == len(laid_out["tokens"]) == answer.usage.prompt_tokens
    assert ask(server, "tokenize", content=laid_out["prompt"])["tokens"] == laid_out["tokens"]
    quiet = ask(server, "apply-template", messages=messages, add_generation_prompt=False)["prompt"]
    assert laid_out["prompt"] == quiet + "<|im_start|>assistant\n"


TOOLS: Any = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather 👋 <|im_end|>"}},
    {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}},
]
ONE: Any = {"type": "function", "function": {"name": "get_time"}}


@pytest.mark.parametrize("more", [{}, {"tools": TOOLS}, {"tools": TOOLS, "tool_choice": "none"}])
@pytest.mark.parametrize("messages", CHATS)
def test_what_a_chat_costs(server: Server, sdk: openai.OpenAI, messages: Any, more: Any) -> None:
    told = ask(server, "chat/completions/input_tokens", messages=messages, max_tokens=1, **more)
    answer = sdk.chat.completions.create(model=MODEL, messages=messages, max_tokens=1, **more)
    assert answer.usage is not None
    assert (told["input_tokens"], told["estimated"]) == (answer.usage.prompt_tokens, False)
    assert told["tokens_left"] == told["ctx_len"] - told["input_tokens"] > 0


def test_what_may_be_called_costs_nothing(server: Server) -> None:
    body: Any = {"messages": CHATS[0], "tools": TOOLS}
    choices = ["auto", "required", ONE, {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [ONE]}}]
    costs = {ask(server, "chat/completions/input_tokens", **body, tool_choice=way)["input_tokens"] for way in choices}
    assert len(costs) == 1


def test_while_it_generates(server: Server, sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.create(
        model=MODEL, messages=CHATS[0], max_tokens=200, stream=True, extra_body={"ignore_eos": True}
    ) as stream:
        next(stream)
        assert ask(server, "tokenize", content="Hello world")["count"] == 2
        assert sum(1 for _ in stream) > 50


@pytest.mark.parametrize("token", [-1, 1 << 30])
def test_no_token_of_the_model(server: Server, token: int) -> None:
    answer = server.post("/v1/detokenize", json={"model": MODEL, "tokens": [1, token]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tokens.1")
