"""Answers as real templates write them, watched letter by letter: what is held is a call, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from janflask.engine.guide import Guide
from janflask.engine.matcher import GrammarMatcher, Masks, mask_words
from janflask.engine.spelling import Speller
from janflask.engine.watch import AnswerWatch
from janflask.inference.forms.constrained import of_grammar
from janflask.inference.local.reading import Reading
from janflask.inference.local.watching import watch_of
from janflask.inference.parts import ReasoningPart, TextPart, ToolCallPart
from janflask.inference.requests import ChatMessage, ChatRequest
from janflask.ipc.messages.constraint import Constraint
from janflask.ipc.messages.generation import Watch
from tests.fakes.fake_grammar import FakeStream, FakeWords
from tests.fakes.walks import Vocabulary
from tests.unit.inference.real_layouts import THOUGHT, Layout
from tests.unit.inference.test_call_grammar import OTHERWISE, plain
from tests.unit.inference.test_real_calls import CASES, CLOCK, SHOWN_BY, WEATHER, rendered, shown

BYTES = Vocabulary()
WORDS = FakeWords()
TOOLS = (WEATHER, CLOCK)
# Their templates write more behind calls, which ends the answer: a second message with one, the words.
MORE_BEHIND = {
    "two calls": {"muse-glimmer"},
    "a call after words": {"google-gemma-4-31B-it", "google-gemma-4-31B-it-interleaved"},
}


class Compiled:
    """Over a vocabulary of bytes."""

    def __init__(self, constraint: Constraint) -> None:
        self.inner = BYTES.matcher(constraint)

    def matcher(self) -> GrammarMatcher:
        matcher = GrammarMatcher(self.inner.deep_copy(), np.zeros(mask_words(BYTES.size), np.uint32))
        matcher.look_ahead()
        return matcher


def guide(watch: Watch) -> AnswerWatch:
    calls, answer = (None if constraint is None else Compiled(constraint) for constraint in (watch.calls, watch.answer))
    return AnswerWatch(watch, Speller(WORDS), FakeStream(WORDS), Masks(BYTES.size), calls, answer)


def watched(layout: Layout, prompt: str, **fields: Any) -> AnswerWatch:
    request = ChatRequest(model="m", messages=(ChatMessage.of("user", "Hi"),), **{"tools": TOOLS, **fields})
    watch = watch_of(layout.rules, request, Reading(layout.rules, prompt), {})
    assert watch is not None
    return guide(watch)


def follow(led: Guide, text: str) -> str:
    """Draws a text byte by byte, as far as it is allowed; gives what is left."""
    data = text.encode()
    for place, byte in enumerate(data):
        if led.is_complete:
            return data[place:].decode()
        mask = led.mask
        if mask is not None and not Masks.allows(mask, byte):
            return data[place:].decode()
        assert led.take(byte, 0, ends=False) == [byte]
        assert led.error is None
        if led.matcher is not None:
            led.matcher.look_ahead()
    return ""


def cases(layouts: dict[str, Layout], case: str) -> Iterator[tuple[str, Layout, str, str]]:
    for name, layout in layouts.items():
        parts = tuple(plain(part) if isinstance(part, ToolCallPart) else part for part in CASES[case])
        found = shown(layout, parts)
        if not isinstance(found, str) and name not in OTHERWISE and name not in SHOWN_BY:
            yield name, layout, *found


@pytest.mark.parametrize(("case", "least"), [("words", 60), ("words after thoughts", 35)])
def test_words_are_never_held(layouts: dict[str, Layout], case: str, least: int) -> None:
    seen = 0
    for name, layout, prompt, text in cases(layouts, case):
        led = watched(layout, prompt)
        assert follow(led, text) == "", name
        assert led.matcher is None, name
        seen += 1
    assert seen >= least


@pytest.mark.parametrize(
    ("case", "least"), [("one call", 50), ("two calls", 45), ("a call after words", 35), ("a call after thoughts", 35)]
)
def test_calls_are_held_as_their_models_write_them(layouts: dict[str, Layout], case: str, least: int) -> None:
    differ, seen = {}, 0
    for name, layout, prompt, text in cases(layouts, case):
        led = watched(layout, prompt)
        left = follow(led, text.rstrip())
        for end in layout.rules.ends:
            left = left.removesuffix(end)
        if led.matcher is None or left.strip():
            differ[name] = (led.matcher is None, left)
        seen += 1
    assert {name for name, (is_free, _) in differ.items() if not is_free} == MORE_BEHIND.get(case, set())
    assert not any(is_free for is_free, _ in differ.values()), differ
    assert seen >= least


def test_a_call_without_its_markers_is_held(layouts: dict[str, Layout]) -> None:
    bare = '{"name": "get_weather", "%s": {"place": "x", "days": 3}}'
    seen = 0
    for name, layout in layouts.items():
        rules = layout.rules.calls
        if rules.bare is None or rules.name_key != "name" or layout.rules.wraps:
            continue
        led = watched(layout, "")
        assert follow(led, bare % rules.arguments_key) == "", name
        assert led.matcher is not None, name
        other = watched(layout, "")
        assert follow(other, '{"name": "Ada", "age": 36}') == "", name
        assert other.matcher is None, name
        seen += 1
    assert seen >= 25


@pytest.mark.parametrize("thinks", [True, False])
def test_a_form_holds_behind_thoughts_as_their_models_write_them(layouts: dict[str, Layout], thinks: bool) -> None:
    """Without thoughts one writes their end nevertheless, and one leaves out in its history what its prompt opens."""
    form = of_grammar(r'start: "{" /"a":17/ "}"', "grammar")
    differ, seen = {}, 0
    for name, layout in layouts.items():
        if layout.rules.reasoning is None:
            continue
        parts = (*([ReasoningPart(THOUGHT)] if thinks else []), TextPart('{"a":17}'))
        found = rendered(layout, *parts)
        if found is None or (thinks and THOUGHT not in found[1]) or '{"a":17}' not in found[1]:
            continue
        prompt, text = found
        led = watched(layout, prompt, tools=(), constraint=form)
        left = follow(led, text[: text.index("}") + 1])
        if left or not led.is_complete:
            differ[name] = (prompt[-30:], text, left)
        seen += 1
    assert set(differ) == (set() if thinks else {"MiniMax-M3", "NVIDIA-Nemotron-Nano-v2"}), differ
    assert seen >= 20
