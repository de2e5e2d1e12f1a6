"""Markers that are known by name: of templates that never show what was thought, and so cannot be asked."""

from __future__ import annotations

from dataclasses import replace

from janflask.parsing.calls import ANY, GENERIC, KEY, CallRules, Kind
from janflask.parsing.rules import AnswerRules, Reasoning

# In the order in which they are looked for in a template's source.
THOUGHTS = (
    ("[THINK]", "[/THINK]"),  # Mistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command R, A
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<mm:think>", "</mm:think>"),  # MiniMax M3
    ("<think>", "</think>"),  # DeepSeek, Qwen, and most others
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("◁think▷", "◁/think▷"),  # Kimi VL
)
FINAL = "[BEGIN FINAL RESPONSE]"  # Apriel
APRIEL = "Here are my reasoning steps:"

# What leads an answer's text, and what ends it, where a template does not show it; and a text that tells the template.
WRAPS = (
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_RESPONSE|>"),  # Command R
    ("<response>", "</response>", "<response></response>"),  # Granite 3.3
)
KIMI_K3 = AnswerRules(
    Reasoning("<|open|>think<|sep|>", "<|close|>think<|sep|>", closing="<|close|>think<|sep|><|open|>response<|sep|>"),
    wraps=("<|open|>response<|sep|>",),
    ends=("<|close|>response<|sep|><|close|>message<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"),
)
KIMI_K3_SOURCE = "close_tag('think')"
FUNCTIONARY = AnswerRules(wraps=(">>>all\n",), prompted=">>>")
FUNCTIONARY_SOURCE = ">>>${recipient}"
MUSE = "<atem:function_calls>"
MUSE_NEXT = "<|eom|><|start|>assistant"
HARMONY = "<|channel|>"
HARMONY_NEXT = "<|end|><|start|>assistant"
HARMONY_TEXTS = ("<|channel|>final<|message|>", "<|channel|>commentary<|message|>")
# The model writes the receiver before or behind the channel, and the type of the arguments in several ways.
HARMONY_CALLS = CallRules(
    Kind.NAMED,
    start="to=functions.",
    others=("<|channel|>commentary to=functions.", "<|channel|>analysis to=functions."),
    name_end=r"(?:<\|channel\|>\w+)?\s*(?:<\|constrain\|>\s*(?:json)?|\sjson)?\s*<\|message\|>",
    end="<|call|>",
)
MINIMAX = "]<]minimax[>["  # stands before every tag of MiniMax M3
CDATA = ("<![CDATA[", "]]>")  # MiniCPM 5
LFM2_CALLS = CallRules(Kind.PYTHON, start="<|tool_call_start|>", end="<|tool_call_end|>")
# Of templates that do not show calls, or in a way that tells nothing: a text that tells the template, and its calls.
CALLS = (
    ("<|channel|>commentary", HARMONY_CALLS),
    (
        "<|tool_calls_section_begin|>",
        CallRules(
            Kind.NAMED,
            section="<|tool_calls_section_begin|>",
            section_end="<|tool_calls_section_end|>",
            start="<|tool_call_begin|>functions.",
            end="<|tool_call_end|>",
            name_end=r":\d+\s*<\|tool_call_argument_begin\|>",
        ),
    ),
    ("<|tool_call>call:", CallRules(Kind.GEMMA, start="<|tool_call>call:", end="<tool_call|>")),
    (
        KIMI_K3_SOURCE,
        CallRules(
            Kind.TAGGED,
            section="<|open|>tools<|sep|>",
            section_end="<|close|>tools<|sep|>",
            start='<|open|>call tool="',
            end="<|close|>call<|sep|>",
            name_end=r'"[^<>]{0,40}<\|sep\|>',
            key='<|open|>argument key="',
            key_end=r'"[^<>]{0,40}<\|sep\|>',
            value_end="<|close|>argument<|sep|>",
        ),
    ),
    (FUNCTIONARY_SOURCE, CallRules(Kind.NAMED, start=">>>")),
    (
        MUSE,
        CallRules(
            Kind.TAGGED,
            start=f'to={ANY}<|message|>{MUSE}<atem:invoke name="',
            end="</atem:invoke></atem:function_calls>",
            name_end='">',
            key='<atem:parameter name="',
            key_end='">',
            value_end="</atem:parameter>",
        ),
    ),
    (
        MINIMAX,
        CallRules(
            Kind.ELEMENTS,
            section=MINIMAX + "<tool_call>",
            section_end=MINIMAX + "</tool_call>",
            start=MINIMAX + '<invoke name="',
            end=MINIMAX + "</invoke>",
            name_end='">',
            key=MINIMAX + "<",
            key_end=">",
            value_end=f"{MINIMAX}</{KEY}>",
        ),
    ),
    ("<|tool_call_start|>", LFM2_CALLS),
    ("<|tool_list_start|>", LFM2_CALLS),
    ("Action:", CallRules(Kind.JSON, start="Action:", name_key="tool_name", arguments_key="parameters")),
)


def named_thoughts(source: str) -> Reasoning | None:
    """The markers whose both names stand in a template's source."""
    for start, end in THOUGHTS:
        if start in source and end in source:
            return Reasoning(start, end)
    return None


def completed(rules: AnswerRules, source: str) -> AnswerRules:
    """``rules`` as a template's renderings show them, with what is known of its family."""
    if APRIEL in source and FINAL in source:
        return AnswerRules(Reasoning(APRIEL, FINAL, f"{APRIEL}\n", f"\n{FINAL}\n"))
    for told, known in ((KIMI_K3_SOURCE, KIMI_K3), (FUNCTIONARY_SOURCE, FUNCTIONARY)):
        if told in source:
            return known
    if MUSE in source:
        return replace(rules, ends=(*rules.ends, MUSE_NEXT))
    if HARMONY in source and rules.reasoning is not None and HARMONY in rules.reasoning.start:
        return replace(rules, wraps=HARMONY_TEXTS, ends=(HARMONY_NEXT,))
    known = rules if rules.reasoning is not None else replace(rules, reasoning=named_thoughts(source))
    if known.wraps:
        return known
    found = [(start, end) for start, end, told in WRAPS if told in source]
    return replace(known, wraps=tuple(start for start, _ in found), ends=tuple(end for _, end in found))


def with_known_calls(rules: AnswerRules, source: str) -> AnswerRules:
    """``rules`` with the calls of a family where the renderings showed none; gpt-oss has more ways than they show."""
    for told, calls in CALLS:
        if told in source and (rules.calls == GENERIC or calls is HARMONY_CALLS):
            return replace(rules, calls=calls)
    if CDATA[0] in source and rules.calls.kind is Kind.TAGGED:
        return replace(rules, calls=replace(rules.calls, quotes=CDATA))
    return rules
