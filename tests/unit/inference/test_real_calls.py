"""Calls as real templates write them, read back wherever the text is cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from janflask.inference.deltas import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from janflask.inference.parts import ReasoningPart, TextPart, ToolCallPart
from janflask.inference.probing.texts import prefix
from janflask.inference.requests import ChatMessage, Tool
from janflask.parsing.answer import AnswerParser
from janflask.parsing.calls import GENERIC
from janflask.parsing.rules import AnswerRules
from tests.unit.inference.real_layouts import ASKED, NAMES, THOUGHT, Layout
from tests.unit.inference.test_real_reasoning import NONE

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
CLOCK = Tool(
    "clock", "What time it is.", {"type": "object", "properties": {"zone": {"type": "string", "description": "Which."}}}
)
TOOLS = {tool.name: tool.parameters for tool in (WEATHER, CLOCK)}
CALLS = (
    ToolCallPart("call00001", "get_weather", json.dumps({"place": 'Köln "Mitte" <b>', "days": 3, "units": ["C", "}"]})),
    ToolCallPart("call00002", "clock", json.dumps({"zone": "a\nb"})),
)
SAID = "Let me look."

# What ends a turn with calls and another than one of words; a model's end tokens are no text of its answer.
ENDS = (
    "<|eom_id|>",
    "<｜hy_eos:opensource｜>",  # noqa: RUF001
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|call|>",
    "<|tool_response>",
    "<|end_of_msg|>",
    "<｜end▁of▁sentence｜>",  # noqa: RUF001
    "<SPECIAL_12>",
    "<|eot|>",
)

Answer = tuple[str, str, list[tuple[str, Any]]]  # thoughts, words, calls


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


def deltas_of(rules: AnswerRules, prompt: str, *pieces: str) -> list[Delta]:
    parser = AnswerParser(rules, 0, TOOLS)
    parser.begin(prompt)
    return [delta for piece in pieces for delta in parser.feed(piece)] + parser.finish()


def parsed(rules: AnswerRules, prompt: str, *pieces: str) -> Answer:
    return joined(deltas_of(rules, prompt, *pieces))


def rendered(layout: Layout, *parts: Any, told: Sequence[Tool] = (WEATHER, CLOCK)) -> tuple[str, str] | None:
    """A prompt, and the answer of ``parts`` as the template writes it behind it; None if it refuses them.

    A prompt that an answer of the history does not follow (some open thoughts there, which are left out later) ends
    where both go different ways.
    """
    tools: dict[str, Any] = {"tools": [tool.as_told() for tool in told]} if layout.forms.calls.tools else {}
    switched = [{**tools, "enable_thinking": on, "thinking": on} for on in (True, False)]
    text = layout.text(ASKED, ChatMessage(role="assistant", parts=parts), **switched[0])
    if not text:
        return None
    before, _, after = layout.text(ASKED, ChatMessage.of("assistant", "Qz7zQ"), **switched[0]).rpartition("Qz7zQ")
    asked = [layout.text(ASKED, add_generation_prompt=True, **switch) for switch in switched]
    prompt = next((prompt for prompt in asked if prompt and text.startswith(prompt)), None)
    if prompt is None:
        header = max((prefix(text, prompt) for prompt in (*asked, before)), key=len)
        prompt = header[: header.rindex("<")] if header.rfind("<") > header.rfind(">") else header
    answer = text[len(prompt) :].rstrip().removesuffix(after.strip())
    answer = answer[: min((answer.find(end) for end in ENDS if end in answer), default=len(answer))]
    if answer.startswith(THOUGHT) and layout.rules.opens(asked[0]):
        prompt = asked[0]
    return prompt, answer


CASES: dict[str, tuple[Any, ...]] = {
    "words": (TextPart(SAID),),
    "words after thoughts": (ReasoningPart(THOUGHT), TextPart(SAID)),
    "one call": CALLS[:1],
    "two calls": CALLS,
    "a call after words": (TextPart(SAID), CALLS[0]),
    "a call after thoughts": (ReasoningPart(THOUGHT), CALLS[0]),
}
REFUSES = "it refuses the conversation"
NO_THOUGHTS, NO_CALLS, NO_WORDS = "it leaves thoughts out", "it leaves calls out", "it leaves words out"
AS_THOUGHTS = "it writes words where thoughts stand"
IN_WORDS = "its calls are told in words, which are not its model's"  # see ``test_calls_that_it_does_not_show``
SHOWN_BY = {
    "LFM2-8B-A1B": "LFM2.5-8B-A1B",
    "Kimi-K2-Instruct": "moonshotai-Kimi-K2",
    "Kimi-K2-Thinking": "moonshotai-Kimi-K2",
}
LLAMAS = ("meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.2-3B-Instruct", "meta-llama-Llama-3.3-70B-Instruct")
NEVER = {"fireworks-ai-llama-3-firefunction-v2": REFUSES}  # it wants variables of its own
TOLD = NEVER | dict.fromkeys(SHOWN_BY, IN_WORDS)
UNTHINKING = dict.fromkeys(NONE, NO_THOUGHTS) | NEVER
# The templates that cannot show a case, and why.
IMPOSSIBLE: dict[str, dict[str, str]] = {
    "words": NEVER | {"NVIDIA-Nemotron-Nano-v2": AS_THOUGHTS},
    "words after thoughts": UNTHINKING,
    "one call": TOLD,
    "two calls": TOLD
    | dict.fromkeys(LLAMAS, REFUSES)
    | dict.fromkeys(("GigaChat3-10B-A1.8B", "GigaChat3.1-10B-A1.8B", "openai-gpt-oss-120b"), NO_CALLS),
    "a call after words": TOLD
    | dict.fromkeys(LLAMAS, NO_WORDS)
    | dict.fromkeys(
        (
            "Cohere2MoE",
            "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
            "MiniMax-M1",
            "Mistral-Small-3.2-24B-Instruct-2506",
            "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
            "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
            "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
            "mistralai-Mistral-Nemo-Instruct-2407",
            "muse-glimmer",
            "upstage-Solar-Open-100B",
        ),
        NO_WORDS,
    )
    | {
        "NVIDIA-Nemotron-Nano-v2": NO_CALLS,  # it writes them in a turn of their own
        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": NO_CALLS,
        "openai-gpt-oss-120b": AS_THOUGHTS,
    },
    "a call after thoughts": UNTHINKING | {"Kimi-K2-Thinking": IN_WORDS},
}


def as_thoughts(rules: AnswerRules, prompt: str, text: str) -> bool:
    """Whether the words stand where thoughts do."""
    if rules.reasoning is None:
        return False
    is_open = rules.opens(prompt) and rules.reasoning.end not in text
    return is_open or rules.reasoning.start + SAID in text


def shown(layout: Layout, parts: tuple[Any, ...]) -> tuple[str, str] | str:
    """A prompt and the answer; or why there is none."""
    found = rendered(layout, *parts)
    if found is None:
        return REFUSES
    if any(isinstance(part, ReasoningPart) and THOUGHT not in found[1] for part in parts):
        if layout.rules.reasoning is None:
            return NO_THOUGHTS
        # Many models think, and their templates leave it out: it stands in front, between the markers that are known.
        prompt, text = rendered(layout, *parts[1:]) or ("", "")
        text = text.removeprefix(layout.rules.reasoning.start).lstrip().removeprefix(layout.rules.reasoning.end)
        found = prompt, f"{layout.rules.reasoning.start}\n{THOUGHT}\n{layout.rules.reasoning.end}{text}"
    text = found[1]
    calls = [part for part in parts if isinstance(part, ToolCallPart)]
    if not all(call.name in text for call in calls):
        return NO_CALLS
    if calls and layout.rules.calls != GENERIC and "<tool_call>\n{" in text and not layout.forms.calls.calls:
        return IN_WORDS
    if any(isinstance(part, TextPart) for part in parts):
        if SAID not in text:
            return NO_WORDS
        if as_thoughts(layout.rules, *found):
            return AS_THOUGHTS
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_what_it_renders_is_read_back(layouts: dict[str, Layout], name: str, case: str) -> None:
    layout, parts = layouts[name], CASES[case]
    found = shown(layout, parts)
    assert (found if isinstance(found, str) else None) == IMPOSSIBLE.get(case, {}).get(name)
    if isinstance(found, str):
        return
    prompt, text = found
    thoughts = "".join(part.text for part in parts if isinstance(part, ReasoningPart))
    words = "".join(part.text for part in parts if isinstance(part, TextPart))
    calls = [(part.name, json.loads(part.arguments)) for part in parts if isinstance(part, ToolCallPart)]
    read_back(layout.rules, prompt, text, (thoughts, words, calls))


def read_back(rules: AnswerRules, prompt: str, text: str, expected: Answer) -> None:
    """Wherever it is cut in two, letter by letter, and, broken off, nothing that was not there."""
    whole = parsed(rules, prompt, text)
    assert (whole[0], whole[1].strip(), whole[2]) == expected
    for cut in range(len(text)):
        assert parsed(rules, prompt, text[:cut], text[cut:]) == whole, text[:cut]
        begun = deltas_of(rules, prompt, text[:cut])
        named = [delta.name for delta in begun if isinstance(delta, ToolCallDelta) and delta.name]
        assert named == [name for name, _ in whole[2]][: len(named)], text[:cut]
    assert parsed(rules, prompt, *text) == whole


def test_calls_that_it_does_not_show(layouts: dict[str, Layout]) -> None:
    """Templates of the same models do."""
    for name, other in SHOWN_BY.items():
        for case in ("one call", "two calls", "a call after words"):
            found = shown(layouts[other], CASES[case])
            assert not isinstance(found, str)
            assert parsed(layouts[name].rules, *found) == parsed(layouts[other].rules, *found), (name, case)


def test_a_call_in_a_fence_of_code_is_text(layouts: dict[str, Layout]) -> None:
    for name, layout in layouts.items():
        found = rendered(layout, CALLS[0])
        if found is None:
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


DEEP = {
    "type": "object",
    "properties": {
        "rows": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": ["integer", "string"]}}}},
        "empty": {"type": "object", "properties": {}},
        "item": {"type": "object", "properties": {"item": {"type": "array", "items": {"type": "number"}}}},
    },
    "description": "Nested.",
}
SAVE = Tool(
    "save",
    "Saves.",
    {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "A text."},
            "flag": {"type": "boolean", "description": "A flag."},
            "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "A text or none."},
            "nothing": {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "A number or none."},
            "deep": DEEP,
        },
    },
)
SAVED = {
    "text": "\n  a <b> & c\n\n",
    "flag": True,
    "maybe": "12",
    "nothing": None,
    "deep": {"rows": [{"b": 1}, {"b": "x"}], "empty": {}, "item": {"item": [1.5, 2]}},
}


def test_values_are_what_they_were(layouts: dict[str, Layout]) -> None:
    """Blanks around a text, a text that looks like a number, objects in lists in objects."""
    read = set()
    call = ToolCallPart("call00001", "save", json.dumps(SAVED))
    for name, layout in layouts.items():
        found = rendered(layout, call, told=[SAVE])
        if found is None or name in TOLD:
            continue
        prompt, text = found
        for pieces in ([text], list(text)):
            parser = AnswerParser(layout.rules, 0, {"save": SAVE.parameters})
            parser.begin(prompt)
            deltas = [delta for piece in pieces for delta in parser.feed(piece)]
            [(called, saved)] = joined(deltas + parser.finish())[2]
            if name == "MiniMax-M3":  # it leaves out what is null
                saved["nothing"] = None
            assert (called, saved) == ("save", SAVED), (name, text)
        read.add(name)
    # One wants a type of each parameter.
    assert read == set(NAMES) - set(TOLD) - {"CohereForAI-c4ai-command-r-plus-tool_use"}
