"""Calls as real templates write them, read back wherever the text is cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from janflask.inference.deltas import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from janflask.inference.parts import ReasoningPart, TextPart, ToolCallPart
from janflask.inference.requests import ChatMessage, Tool
from janflask.parsing.answer import AnswerParser
from janflask.parsing.calls import GENERIC
from janflask.parsing.rules import AnswerRules
from tests.unit.inference.test_real_reasoning import ASKED, NAMES, THOUGHT, Layout

WEATHER = Tool(
    "get_weather",
    "The weather at a place.",
    {
        "type": "object",
        "properties": {
            "place": {"type": "string", "description": "Where."},
            "days": {"type": "integer", "description": "How many."},
            "units": {"type": "array", "items": {"type": "string"}, "description": "Which."},
        },
    },
)
CLOCK = Tool("clock", "What time it is.", {"type": "object", "properties": {"zone": {"type": "string"}}})
TOOLS = {tool.name: tool.parameters for tool in (WEATHER, CLOCK)}
CALLS = (
    ToolCallPart("call00001", "get_weather", json.dumps({"place": 'Köln "Mitte" <b>', "days": 3, "units": ["C", "}"]})),
    ToolCallPart("call00002", "clock", json.dumps({"zone": "a\nb"})),
)
SAID = "Let me look."

# What ends a turn with calls and another than one of words; a model's end tokens are no text of its answer.
ENDS = ("<|eom_id|>", "<｜hy_eos:opensource｜>", "<|END_OF_TURN_TOKEN|>", "<|call|>", "<|tool_response>")  # noqa: RUF001
# Those whose calls, or values in them, cannot be read: they are text.
NOT_READ = {
    "ByteDance-Seed-OSS",  # a list is written as Python has it
    "Kimi-K3",
    "MiniMax-M3",
    "NVIDIA-Nemotron-Nano-v2",  # words, the end of the turn, and another turn with the call
    "meetkai-functionary-medium-v3.2",
    "muse-glimmer",
    "openbmb-MiniCPM5-1B",  # CDATA around a text
}

Answer = tuple[str, str, list[tuple[str, Any]]]  # thoughts, words, calls


@pytest.fixture(scope="module")
def layouts(llama_templates: Path) -> Iterator[dict[str, Layout]]:
    found = {name: Layout((llama_templates / f"{name}.jinja").read_text()) for name in NAMES}
    yield found
    for layout in found.values():
        layout.renderer.close()


def joined(deltas: list[Delta]) -> Answer:
    thoughts, words = [], []
    calls: list[tuple[str, list[str]]] = []
    for delta in deltas:
        if isinstance(delta, ReasoningDelta):
            thoughts.append(delta.text)
        elif isinstance(delta, TextDelta):
            words.append(delta.text)
        else:
            assert isinstance(delta, ToolCallDelta)
            if delta.name is not None:
                assert delta.call == len(calls)
                assert delta.id
                calls.append((delta.name, []))
            calls[delta.call][1].append(delta.arguments)
    return "".join(thoughts), "".join(words), [(name, json.loads("".join(pieces))) for name, pieces in calls]


def parsed(rules: AnswerRules, prompt: str, *pieces: str) -> Answer:
    parser = AnswerParser(rules, 0, TOOLS)
    parser.begin(prompt)
    return joined([delta for piece in pieces for delta in parser.feed(piece)] + parser.finish())


def rendered(layout: Layout, *parts: Any) -> tuple[str, str] | None:
    """A prompt, and the answer of ``parts`` as the template writes it behind it; None if it does not show them."""
    tools = {"tools": [WEATHER.as_told(), CLOCK.as_told()], "enable_thinking": True, "thinking": True}
    text = layout.text(ASKED, ChatMessage(role="assistant", parts=parts), **tools)
    for switch in ({}, {"enable_thinking": False, "thinking": False}):
        prompt = layout.text(ASKED, add_generation_prompt=True, **{**tools, **switch})
        if prompt and text.startswith(prompt):
            answer = text[len(prompt) :]
            said = layout.text(ASKED, ChatMessage.of("assistant", "Qz7zQ"), **tools).rpartition("Qz7zQ")[2].strip()
            answer = answer.rstrip().removesuffix(said)
            return prompt, answer[: min((answer.find(end) for end in ENDS if end in answer), default=len(answer))]
    return None


KINDS: dict[str, tuple[Any, ...]] = {
    "one call": CALLS[:1],
    "two calls": CALLS,
    "a call after words": (TextPart(SAID), CALLS[0]),
    "a call after thoughts": (ReasoningPart(THOUGHT), CALLS[0]),
}


AT_LEAST = {"one call": 45, "two calls": 39, "a call after words": 33, "a call after thoughts": 23}


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_renders_is_read_back(layouts: dict[str, Layout], kind: str) -> None:
    parts = KINDS[kind]
    calls = [(part.name, json.loads(part.arguments)) for part in parts if isinstance(part, ToolCallPart)]
    words = "".join(part.text for part in parts if isinstance(part, TextPart))
    read, differ = set(), {}
    for name, layout in layouts.items():
        found = rendered(layout, *parts)
        if found is None or name in NOT_READ or (layout.rules.calls != GENERIC and "<tool_call>\n{" in found[1]):
            continue
        prompt, text = found
        if not all(part.name in text for part in parts if isinstance(part, ToolCallPart)):
            continue  # some models make one call at a time
        if words not in text.removeprefix("<|channel|>analysis<|message|>" + SAID) or (
            kind.endswith("thoughts") and THOUGHT not in text
        ):
            continue
        thoughts, said, made = parsed(layout.rules, prompt, text)
        if (said.strip(), made) != (words, calls) or (kind.endswith("thoughts") and thoughts != THOUGHT):
            differ[name] = (thoughts, said, made, text)
            continue
        for cut in range(len(text)):
            assert parsed(layout.rules, prompt, text[:cut], text[cut:]) == (thoughts, said, made), (name, cut)
        assert parsed(layout.rules, prompt, *text) == (thoughts, said, made), name
        read.add(name)
    assert not differ
    assert len(read) >= AT_LEAST[kind], sorted(read)


def test_a_call_in_a_fence_of_code_is_text(layouts: dict[str, Layout]) -> None:
    for name, layout in layouts.items():
        found = rendered(layout, CALLS[0])
        if found is None or name in NOT_READ:
            continue
        text = f"So it is:\n```\n{found[1].strip()}\n"
        assert parsed(layout.rules, "", text, "```\n") == ("", f"{text}```\n", []), name
        assert parsed(layout.rules, "", *text) == ("", text, []), name


def test_words_are_never_a_call(layouts: dict[str, Layout]) -> None:
    for name, layout in layouts.items():
        marker = layout.rules.calls.triggers[0] if layout.rules.calls.triggers else '{"name"'
        for text in (
            f"Write {marker} or {marker} so",
            f"{marker}",
            f" {marker}\nnobody",
            '{"a": {"name": "x"}}',
            "[1, 2]",
        ):
            assert parsed(layout.rules, "", *text) == ("", text, []), (name, text)
            assert parsed(layout.rules, "", text) == ("", text, []), (name, text)
