"""Hostile words in the chat templates of real models: what looks like a special token in them is never one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from janflask.inference.layout.templates import ChatTemplates, Prompt
from janflask.inference.parts import ToolCallPart
from janflask.inference.requests import ChatMessage, Tool
from janflask.ipc.messages.engine import Specials
from tests.fakes.scripted import INFO
from tools.llama_templates import ensure

NAMES = sorted(path.stem for path in ensure(os.environ).glob("*.jinja"))
# What templates need that no request holds by itself.
VARIABLES = {"functions": "none", "datetime": "today", "date_string": "26 Jul 2024"}
PLACES_IN_WORDS = {"openbmb-MiniCPM5-1B"}  # puts the tools where a system message says <tool_def_sep>
BOS, EOS = "<BOS>", "<EOS>"
BARS = re.compile(r"<[|｜][^<>\s'\"{}]{1,40}>|<[^<>\s'\"{}]{1,40}[|｜]>")  # noqa: RUF001 - DeepSeek's
TAGS = re.compile(r"</?[a-z][\w:]{2,30}>|\[/?[A-Z][A-Z_]{2,30}\]")
HARMLESS = str.maketrans("<>[]|｜/", "(){}!!-")  # noqa: RUF001


def specials(source: str) -> Specials:
    """A vocabulary with everything that looks like a marker in a template, and what every vocabulary has."""
    control = {*BARS.findall(source), BOS, EOS, "<|endoftext|>", "<unk>", "<|im_start|>", "<|im_end|>"}
    return Specials(
        tuple(sorted(control)), tuple(sorted({*TAGS.findall(source), "<tool_call>", "\n\n", "<b>"} - control))
    )


def tokens(prompt: Prompt, known: Specials) -> list[str]:
    """As llama.cpp cuts it: the longest special tokens first, each piece by itself; letters are tokens."""
    found: list[str] = []
    ordered = sorted((*known.control, *known.user_defined), key=len, reverse=True)
    for start, end in pairwise((0, *prompt.cuts, len(prompt.text))):
        pieces: list[tuple[str, bool]] = [(prompt.text[start:end], False)]
        for special in ordered:
            pieces = [new for piece in pieces for new in (_parted(piece[0], special) if not piece[1] else [piece])]
        for text, is_special in pieces:
            found += [text] if is_special else list(text)
    return found


def _parted(text: str, special: str) -> list[tuple[str, bool]]:
    first, *rest = text.split(special)
    return [(first, False), *(pair for part in rest for pair in ((special, True), (part, False)))]


def control(prompt: Prompt, known: Specials) -> list[str]:
    """The control tokens and markers of a prompt; blanks and HTML are neither."""
    return [token for token in tokens(prompt, known) if len(token) > 1 and token not in ("\n\n", "<b>")]


def conversation(words: list[str]) -> tuple[list[ChatMessage], list[Tool]]:
    """Everybody but the assistant says all of ``words``: as they are, nested, in halves over the borders."""
    said = " ".join(words) + "\n" + "".join(words) + "".join(f"{word[:3]}{word}{word[3:]}" for word in words)
    starts, ends = (" ".join(word[:2] for word in words), words[0][2:])
    tool = Tool(
        "look",
        f"Looks. {said}",
        {
            "type": "object",
            "properties": {
                words[0]: {"type": "string", "description": said, "enum": [*words, "a"]},
                **{word[1:-1]: {"type": "string", "description": word, word[1:-1]: word[1:-1]} for word in words},
            },
            words[-1]: words,
        },
    )
    messages = [
        ChatMessage.of("system", f"{said}{starts}{words[1][:3]}"),
        ChatMessage.of("user", f"{words[1][3:]} {said} {words[0][:-1]}"),
        ChatMessage(role="assistant", parts=(ToolCallPart("call00001", "look", '{"a": "b"}'),)),
        ChatMessage.of("tool", f"{words[0]} {said}", tool_call_id="call00001"),
        ChatMessage.of("assistant", "It <b>is</b> [so]."),
        ChatMessage.of("user", f"{ends} {said}{words[2][1:-1]}"),
    ]
    return messages, [tool]


@pytest.fixture(scope="module")
def chats() -> Iterator[ChatTemplates]:
    chats = ChatTemplates()
    yield chats
    chats.close()


def laid_out(chats: ChatTemplates, source: str, words: list[str], **how: Any) -> Prompt:
    info = replace(INFO, chat_template=source, bos_token=BOS, eos_token=EOS)
    messages, tools = conversation(words)
    return chats.prompt(messages, info, None, VARIABLES, tools, **how)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_words_become_no_special_token(chats: ChatTemplates, llama_templates: Path, name: str) -> None:
    source = (llama_templates / f"{name}.jinja").read_text()
    known = specials(source)
    hostile = sorted({*known.control, *known.user_defined} - {"\n\n", "<b>"})
    prompt = laid_out(chats, source, hostile, specials=known)
    harmless = laid_out(chats, source, [word.translate(HARMLESS) for word in hostile], specials=known)
    assert prompt.cuts
    assert control(prompt, known) == control(harmless, known)
    assert "".join(tokens(prompt, known)) == prompt.text
    unguarded = laid_out(chats, source, hostile)
    assert len(control(unguarded, known)) > len(control(harmless, known)), "the words would have done something"
    if name not in PLACES_IN_WORDS:
        assert sorted(prompt.text) == sorted(unguarded.text), "no word is changed or lost; keys may be sorted otherwise"


@pytest.mark.parametrize("name", NAMES)
def test_an_ordinary_conversation_is_as_it_was(chats: ChatTemplates, llama_templates: Path, name: str) -> None:
    """HTML, code, quotations, and schemas whose keys are parts of special tokens."""
    source = (llama_templates / f"{name}.jinja").read_text()
    info = replace(INFO, chat_template=source, bos_token=BOS, eos_token=EOS)
    keys = ("type", "name", "image", "image_url", "tool", "user", "tool_call", "im", "end", "enum", "user_id", "think")
    parameters = {
        "type": "object",
        "properties": {key: {"type": "string", "description": f"> {key} <"} for key in keys},
        "required": [*keys],
    }
    messages = [
        ChatMessage.of("system", "> Be <b>brief</b>: a < b || c > d, </s> [x](y) <"),
        ChatMessage.of("user", ">>> if a <= 5 and [1]: print('<p>') # <!-- -->\n\n"),
        ChatMessage(role="assistant", parts=(ToolCallPart("call00001", "tool", '{"im": "b"}'),)),
        ChatMessage.of("tool", '[{"end": "|>"}, "<"]', tool_call_id="call00001"),
        ChatMessage.of("assistant", "<think>\nHm.\n</think>\n\nSo <b>it</b> is."),
        ChatMessage.of("user", "user"),
    ]
    tools = [Tool("tool", "tool <", parameters), Tool("user", None, {"type": "object", "properties": {}})]
    told = chats.prompt(messages, info, None, VARIABLES, tools)
    assert chats.prompt(messages, info, None, VARIABLES, tools, specials=specials(source)) == told
