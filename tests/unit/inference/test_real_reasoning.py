"""What real templates say of their models' thoughts, and answers that they render themselves, cut at every place."""

from __future__ import annotations

import pytest

from janflask.parsing.answer import AnswerParser
from janflask.parsing.rules import AnswerRules
from tests.unit.inference.real_layouts import ASKED, NAMES, SAID, THOUGHT, Layout
from tests.unit.parsing.test_answer_parser import joined

THINK = ("<think>", "</think>")
NONE = {
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "GigaChat3-10B-A1.8B",
    "GigaChat3.1-10B-A1.8B",
    "Kimi-K2-Instruct",
    "LFM2-8B-A1B",
    "LFM2.5-Instruct",
    "MiMo-VL",
    "MiniMax-M1",
    "Mistral-Small-3.2-24B-Instruct-2506",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen3-Coder",
    "fireworks-ai-llama-3-firefunction-v2",
    "google-gemma-2-2b-it",
    "ibm-granite-granite-4.0",
    "ibm-granite-granite-4.1",
    "meetkai-functionary-medium-v3.1",
    "meetkai-functionary-medium-v3.2",
    "meta-llama-Llama-3.1-8B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct",
    "meta-llama-Llama-3.3-70B-Instruct",
    "microsoft-Phi-3.5-mini-instruct",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "moonshotai-Kimi-K2",
    "unsloth-mistral-Devstral-Small-2507",
}  # no word of thinking is in them
OTHERS = {  # than <think>
    "Apertus-8B-Instruct": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "Apriel-1.6-15b-Thinker-fixed": ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    "ByteDance-Seed-OSS": ("<seed:think>", "</seed:think>"),
    "Cohere2MoE": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "Kimi-K3": ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    "MiniMax-M3": ("<mm:think>", "</mm:think>"),
    "google-gemma-4-31B-it": ("<|channel>thought", "<channel|>"),
    "google-gemma-4-31B-it-interleaved": ("<|channel>thought", "<channel|>"),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("[THINK]", "[/THINK]"),
    "muse-glimmer": ("to=self<|message|>", "<|eom|><|start|>assistant"),
    "openai-gpt-oss-120b": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
    "tencent-Hy3": ("<think:opensource>", "</think:opensource>"),
    "unsloth-Apriel-1.5": ("<thinking>", "</thinking>"),
    "upstage-Solar-Open-100B": ("<|think|>", "<|end|><|begin|>assistant"),
}


@pytest.mark.parametrize("name", NAMES)
def test_its_markers(layouts: dict[str, Layout], name: str) -> None:
    reasoning = layouts[name].rules.reasoning
    found = None if reasoning is None else (reasoning.start, reasoning.end)
    assert found == (None if name in NONE else OTHERS.get(name, THINK))


def parsed(rules: AnswerRules, prompt: str, *pieces: str) -> tuple[str, str]:
    parser = AnswerParser(rules)
    parser.begin(prompt)
    return joined([delta for piece in pieces for delta in parser.feed(piece)] + parser.finish())


def test_an_answer_that_it_renders_is_taken_apart(layouts: dict[str, Layout]) -> None:
    shown = set()
    for name, layout in layouts.items():
        for prompt, text in layout.answers():
            for cut in range(len(text)):
                assert parsed(layout.rules, prompt, text[:cut], text[cut:]) == (THOUGHT, SAID), (name, cut)
            assert parsed(layout.rules, prompt, *text) == (THOUGHT, SAID), name
            shown.add(name)
    assert len(shown) >= 25


def test_an_answer_without_thoughts_is_its_words(layouts: dict[str, Layout]) -> None:
    for name, layout in layouts.items():
        assert parsed(layout.rules, "", *SAID) == ("", SAID), name


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NONE])
def test_thoughts_by_their_markers(layouts: dict[str, Layout], name: str) -> None:
    """Many templates never show them; what opens a block in the prompt opens it for the answer, too."""
    layout = layouts[name]
    assert layout.rules.reasoning is not None
    start, end = layout.rules.reasoning.start, layout.rules.reasoning.end
    lead = layout.rules.wraps[0] if layout.rules.wraps else ""
    prompt = layout.text(ASKED, add_generation_prompt=True, enable_thinking=True, thinking=True)
    opening = "" if layout.rules.opens(prompt) else start
    text = f"{opening}\n{THOUGHT}\n{end}{lead}{SAID}"
    assert parsed(layout.rules, prompt, *text) == (THOUGHT, SAID)


def test_an_answer_goes_on_where_it_broke_off(layouts: dict[str, Layout]) -> None:
    """From the thoughts and words that are known, the text is made again as the model wrote it."""
    for name, layout in layouts.items():
        for prompt, text in layout.answers():
            inside = [text.index(THOUGHT) + 5, text.index(THOUGHT) + 15, text.index(SAID) + 5, text.index(SAID) + 9]
            for cut in inside:
                before, rest = AnswerParser(layout.rules), AnswerParser(layout.rules)
                before.begin(prompt)
                known = joined(before.feed(text[:cut]))
                written = layout.rules.written(prompt, *known)
                assert text[:cut].startswith(written), (name, cut)
                rest.begin(prompt, written)
                more = joined(rest.feed(text[len(written) :]) + rest.finish())
                assert (known[0] + more[0], known[1] + more[1]) == (THOUGHT, SAID), (name, cut)
