"""What a model's ``response_template`` says of its answers, and what it cannot say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from janflask.errors import ConflictError
from janflask.inference.probing.response_template import overruled
from janflask.parsing.answer import AnswerParser
from janflask.parsing.calls import GENERIC, CallRules, Kind
from janflask.parsing.deltas import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from janflask.parsing.rules import PLAIN, AnswerRules, Reasoning

SCHEMAS = {"f": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}}
FUNCTION = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}
THOUGHTS = {"open": "<think>", "close": "</think>", "content": "text"}
# As transformers 5.24 has them for models that bring none (cli/serving/utils.py).
QWEN3 = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": THOUGHTS,
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"\s*(?:<\|im_end\|>|<\|endoftext\|>|<\|eot_id\|>)", "content": "text"},
    },
}
QWEN35 = {
    "fields": {
        "reasoning_content": THOUGHTS,
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>\s*<function=(?P<name>[^>\n]+)>",
            "close_pattern": r"</function>\s*</tool_call>",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {"tag_pattern": r"<parameter=(?P<key>[^>\n]+)>\s*(?P<value>.*?)\s*</parameter>"},
            "transform": FUNCTION,
        },
        "content": {"close_pattern": r"\s*(?:<\|im_end\|>|<\|endoftext\|>)", "content": "text"},
    },
}
GEMMA4 = {
    "start_anchor": ["<|turn>model\n", "<tool_response|>"],
    "fields": {
        "reasoning_content": {"open": "<|channel>thought\n", "close": "<channel|>", "content": "text"},
        "tool_calls": {
            "open_pattern": r"<\|tool_call>call:(?P<name>\w+)",
            "close": "<tool_call|>",
            "repeats": True,
            "content": "json",
            "content_args": {"unquoted_keys": True, "string_delims": [['<|"|>', '<|"|>']]},
            "transform": FUNCTION,
        },
        "content": {"close": ["<turn|>", "<|tool_response>", "<eos>"], "content": "text"},
    },
}
KIMI = {
    "fields": {
        "tool_calls": {
            "open_pattern": r"<\|call\|>functions\.(?P<name>\w+):\d+\s*<\|args\|>",
            "close": "<|end|>",
            "content": "json",
            "transform": FUNCTION,
        },
        "content": {"open": "<|said|>", "close": "<|end|>"},
    },
}
PYTHON = {"fields": {"tool_calls": {"open": "<|calls|>", "close": "<|/calls|>", "content": "python-call-list"}}}
LISTED = {
    "fields": {
        "tool_calls": {
            "open": ["<calls>", "<c>"],
            "close": "</calls>",
            "content": "json",
            "transform_each": True,
            "transform": {"function": {"name": "{tool}", "arguments": "{params}"}},
        },
        "content": {},
    }
}
OWN = {
    "version": 1,
    "reasoning": {"start": "<t>", "end": "</t>"},
    "calls": {"kind": "named", "start": "<f=", "name_end": r"\s*>", "end": "</f>"},
}


def read(rules: AnswerRules, *pieces: str) -> tuple[str, str, list[tuple[str, Any]]]:
    parser = AnswerParser(rules, 0, SCHEMAS)
    deltas: list[Delta] = [delta for piece in pieces for delta in parser.feed(piece)] + parser.finish()
    calls: list[list[str]] = []
    for delta in deltas:
        if isinstance(delta, ToolCallDelta) and delta.name is not None:
            calls.append([delta.name, ""])
        elif isinstance(delta, ToolCallDelta):
            calls[-1][1] += delta.arguments
    thought = "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))
    said = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    return thought, said, [(name, json.loads(arguments)) for name, arguments in calls]


CALL = ("f", {"a": "x"})


@pytest.mark.parametrize(
    ("template", "text", "thought", "said", "calls"),
    [
        (QWEN3, "<think>\nHm\n</think>\n\nHi<|im_end|>", "Hm", "Hi", []),
        (QWEN3, 'Hi\n<tool_call>\n{"name": "f", "arguments": {"a": "x"}}\n</tool_call>', "", "Hi", [CALL]),
        (
            QWEN3,
            '<tool_call>\n{"name": "f", "arguments": {"a": "x"}}\n</tool_call>\n'
            '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>\n<|endoftext|>',
            "",
            "",
            [CALL, ("f", {})],
        ),
        (
            QWEN35,
            "<think>Hm</think>\n\nHi\n\n<tool_call>\n<function=f>\n<parameter=a>\nx\n</parameter>\n"
            "<parameter=b>\n1\n</parameter>\n</function>\n</tool_call><|im_end|>",
            "Hm",
            "Hi",
            [("f", {"a": "x", "b": 1})],
        ),
        (GEMMA4, '<|channel>thought\nHm<channel|><|tool_call>call:f{a:<|"|>x<|"|>}<tool_call|>', "Hm", "", [CALL]),
        (GEMMA4, "<|channel>thought\nHm<channel|>Hi<turn|>", "Hm", "Hi", []),
        (KIMI, '<|said|>Hi<|end|><|call|>functions.f:0<|args|>{"a": "x"}<|end|>', "", "Hi", [CALL]),
        (PYTHON, "Hi <|calls|>[f(a='x'), f(b=1)]<|/calls|>", "", "Hi", [CALL, ("f", {"b": 1})]),
        (LISTED, '<calls>[{"tool": "f", "params": {"a": "x"}}]</calls>', "", "", [CALL]),
        (LISTED, '<c>[{"tool": "f", "params": {"a": "x"}}]</calls>', "", "", [CALL]),
        (OWN, '<t>Hm</t>Hi<f=f >{"a": "x"}</f>', "Hm", "Hi", [CALL]),
    ],
)
def test_answers_are_read_by_it(
    template: dict[str, Any], text: str, thought: str, said: str, calls: list[tuple[str, Any]]
) -> None:
    rules = overruled(PLAIN, template)
    expected = (thought, said, calls)
    assert read(rules, text) == expected
    assert read(rules, *text) == expected
    for cut in range(len(text)):
        assert read(rules, text[:cut], text[cut:]) == expected, text[:cut]


SHOWN = AnswerRules(Reasoning("<think>", "</think>"), wraps=("<say>",), ends=("</say>",))


def test_it_goes_over_what_the_chat_template_shows() -> None:
    assert overruled(SHOWN, PYTHON).reasoning is None  # Hugging Face's says all
    assert overruled(SHOWN, {"reasoning": None}) == AnswerRules(None, ("<say>",), ("</say>",), GENERIC)
    calls = CallRules(Kind.JSON, start="[C]", arguments_key="parameters")
    given = {"calls": {"kind": "json", "start": "[C]", "arguments_key": "parameters"}}
    assert overruled(SHOWN, given) == AnswerRules(SHOWN.reasoning, ("<say>",), ("</say>",), calls)
    assert overruled(SHOWN, {"wraps": ["<r>"], "ends": ["</r>"]}).wraps == ("<r>",)


def _field(**field: Any) -> dict[str, Any]:
    return {"fields": {"tool_calls": {"open": "<c>", "close": "</c>", "content": "json", **field}}}


def _tags(pattern: object) -> dict[str, Any]:
    field = {"open_pattern": "<f=(?P<name>\\w+)>", "close": "</f>", "content": "xml-inline"}
    return {"fields": {"tool_calls": {**field, "content_args": {"tag_pattern": pattern}}}}


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ([], "it is no object"),
        ({"fields": {}}, "fields must be an object"),
        ({"fields": {"content": []}}, "fields.content must be an object"),
        ({"fields": {"audio": {}}}, "fields.audio has no place in an answer"),
        ({"fields": {"content": {}}, "x-regex": "a"}, "x-regex is not known here"),
        ({"fields": {"content": {}}, "version": 2}, "version 2 is not known"),
        ({"fields": {"content": {"opens": "a"}}}, "fields.content.opens is not known here"),
        ({"fields": {"content": {"content": "int"}}}, "fields.content.content must be text"),
        ({"fields": {"content": {"close": [""]}}}, "fields.content.close must be a list of texts"),
        ({"fields": {"content": {"close": "a", "close_pattern": "a"}}}, "has both close and close_pattern"),
        ({"fields": {"thinking": {"open": "<t>"}}}, "fields.thinking must have one text in open and one in close"),
        ({"fields": {"thinking": {"open_pattern": "<t(?:a|b)>", "close": "x"}}}, "must have one text in open"),
        ({"fields": {"thinking": {"open_pattern": "<t\\w+>", "close": "x"}}}, "more in it than a text"),
        ({"fields": {"thinking": {"open_pattern": "(a+)+b", "close": "x"}}}, "is more than can be read, at '(a+)+b'"),
        ({"fields": {"thinking": {"open_pattern": "(?:a|b)" * 9, "close": "x"}}}, "more than 16 choices"),
        ({"fields": {"thinking": {"open_pattern": "(?:a|b)" * 5, "close": "x"}}}, "more than 16 choices"),
        ({"fields": {"thinking": {"open_pattern": "a" * 3000, "close": "x"}}}, "at most 2000 characters"),
        ({"fields": {"thinking": {"open_pattern": "\\s*", "close": "x"}}}, "there is no text in it"),
        (_field(content="kv-lines"), "fields.tool_calls.content 'kv-lines' cannot be read"),
        (_field(content_args={"allow_non_json": True}), "content_args.allow_non_json is not known here"),
        (_field(content_args=[1]), "content_args must be an object"),
        (_field(content="python-call-list", content_args={"a": 1}), "content_args.a is not known here"),
        (_field(open=None, open_pattern="<c>(?P<name>\\w+)>", content_args=[1]), "content_args must be an object"),
        (_field(close=["</c>", "</d>"]), "fields.tool_calls.close must have one form"),
        (_field(open=None), "must have open or open_pattern"),
        (_field(transform={"function": {"name": "f", "arguments": "{content}"}}), "transform must say where name is"),
        (_field(content="python-call-list", close=None), "calls.end must be there for the kind python"),
        (_field(content="xml-inline"), "must have the tool's name in it"),
        (_tags(None), "tag_pattern must be a text"),
        (_tags("<p>(?P<value>.*?)</p>"), "tag_pattern must have a key and then a value"),
        (_tags("<(?P<key>\\w+)>(?P<value>.*?)</(?P=key)>"), "is more than can be read, at '(?P=key)>'"),
        (_tags("<p=(?P<key>a)[^>]*[^>]*>(?P<value>.*?)</p>"), "more than one part without a text of its own"),
        ({"call": {}}, "call is not known here"),
        ({"calls": None}, "calls must be an object"),
        ({"calls": {"kind": "xml"}}, "calls: Invalid enum value 'xml'"),
        ({"calls": {"kind": "json", "begin": "<c>"}}, "calls.begin is not known here"),
        ({"calls": {"kind": "named"}}, "calls.start must be there for the kind named"),
        ({"calls": {"kind": "tagged", "start": "a", "key": "b", "key_end": "c", "value_end": "d"}}, "calls.end or"),
        ({"calls": {"kind": "named", "start": "a", "name_end": "(x+x+)+y"}}, "calls.name_end: the pattern"),
        ({"calls": {"kind": "named", "start": "a", "name_end": "[^>]*"}}, "calls.name_end: it must end with a text"),
        ({"calls": {"kind": "named", "start": "a", "name_end": "(?P<n>x)>"}}, "a group 'n' has no meaning"),
        ({"reasoning": {"start": "<t>"}}, "reasoning: Object missing required field `end`"),
        ({"reasoning": {"start": "", "end": "</t>"}}, "reasoning.start and reasoning.end must be texts"),
        ({"wraps": "<r>"}, "wraps must be a list of texts"),
    ],
)
def test_what_cannot_be_rules_is_named(template: Any, reason: str) -> None:
    with pytest.raises(ConflictError) as raised:
        overruled(PLAIN, template)
    message = str(raised.value)
    assert message.startswith("the response_template in the model's model.json cannot be used: ")
    assert reason in message
    assert len(message) < 500


def test_an_expression_of_a_model_does_not_run_away() -> None:
    parser = AnswerParser(overruled(PLAIN, _tags("<p=(?P<key>[^>]+)[^>]*>(?P<value>.*?)</p>")), 0, SCHEMAS)
    deltas = parser.feed("<f=f><p=" + "x" * 100_000) + parser.finish()
    assert [delta.name for delta in deltas if isinstance(delta, ToolCallDelta)] == ["f"]


def test_the_examples_of_the_docs_are_right() -> None:
    text = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
    examples = [
        json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL) if '"response_t' in block
    ]
    kinds = [overruled(PLAIN, example["response_template"]).calls.kind for example in examples]
    assert kinds == [Kind.JSON, Kind.TAGGED]
