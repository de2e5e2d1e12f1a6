"""Grammars for calls: what real templates write is one of their texts, and every text of theirs is a valid call."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from janflask.errors import InvalidRequestError
from janflask.inference.calls.grammar import of_calls
from janflask.inference.calls.tool_schemas import tool_schemas
from janflask.inference.deltas import TextDelta, ToolCallDelta
from janflask.inference.forms.constrained import objection
from janflask.inference.parts import ToolCallPart
from janflask.inference.probing.families import CALLS, CDATA, HARMONY_CALLS, MINIMAX, MUSE
from janflask.inference.requests import Tool
from janflask.parsing.answer import AnswerParser
from janflask.parsing.calls import GENERIC, CallRules, Kind
from janflask.parsing.markers import TAG
from janflask.parsing.rules import AnswerRules
from tests.ext.schemas import PERSON, SCHEMAS, Schema, chain, closed
from tests.fakes.walks import Vocabulary
from tests.unit.inference.real_layouts import Layout
from tests.unit.inference.test_real_calls import CASES, CLOCK, SHOWN_BY, WEATHER, rendered

BYTES = Vocabulary()
WALKS = int(os.environ.get("JANFLASK_TEST_WALKS", "1"))  # under each schema
QWEN_CODER = CallRules(
    Kind.TAGGED,
    start="<tool_call>\n<function=",
    end="</function>\n</tool_call>",
    name_end=">",
    key="<parameter=",
    key_end=r"\s*>",
    value_end="</parameter>",
    is_framed=True,
)
DSML = CallRules(
    Kind.TAGGED,
    section="<｜DSML｜function_calls>",  # noqa: RUF001
    section_end="</｜DSML｜function_calls>",  # noqa: RUF001
    start='<｜DSML｜invoke name="',  # noqa: RUF001
    end="</｜DSML｜invoke>",  # noqa: RUF001
    name_end='">',
    key='<｜DSML｜parameter name="',  # noqa: RUF001
    key_end=r'"\s*string="[^<>]{0,40}?e">',
    value_end="</｜DSML｜parameter>",  # noqa: RUF001
)
GLM = CallRules(
    Kind.TAGGED,
    start="<tool_call>",
    end="</tool_call>",
    key="<arg_key>",
    key_end=r"\s*</arg_key>\s*<arg_value>",
    value_end="</arg_value>",
)
KNOWN = dict(CALLS)
RULES: dict[str, CallRules] = {
    "Hermes": GENERIC,
    "without markers": CallRules(Kind.JSON, name_key="name", arguments_key="parameters"),  # Llama 3
    "a name as key": CallRules(Kind.JSON, start="<|tools_prefix|>", end="<|tools_suffix|>", name_key=""),
    "Mistral Nemo": CallRules(Kind.JSON, start="[TOOL_CALLS]"),
    "Command R": KNOWN["Action:"],
    "Mistral": CallRules(Kind.NAMED, start="[TOOL_CALLS]", name_end=r"\[CALL_ID\](?P<id>[\w.\-]+)\[ARGS\]"),
    "Functionary": CallRules(Kind.NAMED, start="<function=", name_end=">", end="</function>"),
    "DeepSeek": CallRules(
        Kind.NAMED,
        section="<｜tool▁calls▁begin｜>",  # noqa: RUF001
        section_end="<｜tool▁calls▁end｜>",  # noqa: RUF001
        start="<｜tool▁call▁begin｜>",  # noqa: RUF001
        end="<｜tool▁call▁end｜>",  # noqa: RUF001
        name_end="<｜tool▁sep｜>",  # noqa: RUF001
    ),
    "Kimi K2": KNOWN["<|tool_calls_section_begin|>"],
    "gpt-oss": HARMONY_CALLS,
    "Qwen3-Coder": QWEN_CODER,
    "GLM": GLM,
    "DSML": DSML,
    "Kimi K3": KNOWN["close_tag('think')"],
    "Muse": KNOWN[MUSE],
    "MiniMax M3": KNOWN[MINIMAX],
    "MiniCPM": replace(QWEN_CODER, quotes=CDATA),
    "LFM2": KNOWN["<|tool_call_start|>"],
    "Gemma 4": KNOWN["<|tool_call>call:"],
}
ALSO_BARE = {f"{name}, bare": bare for name, rules in RULES.items() if rules.start and (bare := rules.bare)}


def controls(rules: CallRules) -> list[str]:
    """Every tag in the markers, as a vocabulary in which all of them are control tokens has it."""
    markers = (*rules.markers, rules.name_end.replace("\\", ""), rules.key_end.replace("\\", ""))
    return sorted(
        {tag for marker in markers for tag in TAG.findall(marker) if not tag.startswith("[^") and "?" not in tag}
    )


# What is written in another way than a grammar has it.
OTHERWISE = {
    "Reka-Edge",  # letters as escapes
    "ByteDance-Seed-OSS",  # lists as Python has them
    "openbmb-MiniCPM5-1B",  # the same
    "MiniMax-M3",  # lists as elements
    "CohereForAI-c4ai-command-r-plus-tool_use",  # arguments with indents
}

ONE_A_MESSAGE = {"muse-glimmer"}  # and what begins the next message is no part of calls

# --- what templates write ---------------------------------------------------------------------------------------------


def plain(call: Any) -> ToolCallPart:
    """Arguments as models write them, whose letters are no escapes."""
    return ToolCallPart(call.id, call.name, json.dumps(json.loads(call.arguments), ensure_ascii=False))


@pytest.mark.parametrize(("kind", "least"), [("one call", 60), ("two calls", 54)])
def test_what_templates_write_is_taken(layouts: dict[str, Layout], kind: str, least: int) -> None:
    calls = [plain(call) for call in CASES[kind]]
    taken, differ = set(), {}
    for name, layout in layouts.items():
        rules, found = layout.rules.calls, rendered(layout, *calls)
        if (
            found is None
            or name in OTHERWISE
            or (kind == "two calls" and name in ONE_A_MESSAGE)
            or name in SHOWN_BY
            or not all(call.name in found[1] for call in calls)
        ):
            continue
        answer = layout.rules.prompted_by(found[0]) + found[1]
        words = [word for word in (rules.section or rules.start, *rules.triggers) if word in answer] or ["{"]
        text = answer[answer.index(words[0]) :].rstrip()
        for end in layout.rules.ends:
            text = text.removesuffix(end)
        if rules.section_end not in text:
            text += rules.section_end  # DeepSeek R1's template forgets it behind a single call
        ended = any(text.endswith(end) for end in (rules.end, rules.section_end) if end) or not rules.end
        vocabulary = BYTES if ended else Vocabulary([rules.end], [rules.end])
        reason = vocabulary.takes(of_calls(rules, (WEATHER, CLOCK), parallel=True), text)
        if reason is None:
            taken.add(name)
        else:
            differ[name] = reason
        one = vocabulary.takes(of_calls(rules, (WEATHER, CLOCK), parallel=False), text)
        assert (one is None) == (len(calls) == 1), name
    assert differ == {}
    assert len(taken) >= least, sorted(taken)


# --- what grammars allow ----------------------------------------------------------------------------------------------


def argued(schema: Schema) -> Schema:
    """A tool's schema that has ``schema`` within it, be it of an object or not."""
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    inner = {key: value for key, value in schema.items() if key != "$defs"}
    return {
        "type": "object",
        "properties": {"the_value": inner, "n": {"type": "integer"}},
        "required": ["the_value"],
        **definitions,
    }


OWN: list[Schema] = [
    {},
    {"type": "object", "properties": {}},
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
    closed({"text": {"type": "string"}, "flag": {"type": "boolean"}, "nothing": {"type": "null"}}),
    closed(
        {
            "mode": {"type": "string", "enum": ["fast", "slow </b>", "größer", "it's"]},
            "other": {"enum": ["a", 1, True, None]},
        }
    ),
    closed(
        {
            "short": {"type": "string", "minLength": 2, "maxLength": 4},
            "code": {"type": "string", "pattern": "^[a-z]{2}[0-9]+$"},
        }
    ),
    closed(
        {
            "deep": closed(
                {
                    "list": {"type": "array", "items": closed({"ok": {"type": ["boolean", "null"]}})},
                    "größe": {"type": "number"},
                }
            )
        }
    ),
    closed(
        {
            "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "tuple": {"prefixItems": [{"type": "string"}, {"type": "boolean"}], "items": False, "minItems": 1},
        }
    ),
    {
        "$ref": "#/$defs/Args",
        "$defs": {
            "Args": closed(
                {"who": {"$ref": "#/$defs/P"}, "list": {"type": "array", "items": {"$ref": "#/$defs/P"}, "maxItems": 2}}
            ),
            "P": PERSON,
        },
    },
    {"anyOf": [closed({"kind": {"const": "cat"}}), closed({"kind": {"const": "dog"}, "loud": {"type": "boolean"}})]},
    {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    },
    closed({"bell\x07": {"const": "a\x01"}, "choice": {"enum": ["\x7f", "é"]}}),
    closed({"anything": {}, "object": {"type": "object"}, "list": {"type": "array", "maxItems": 3}}),
    closed(
        {"map": {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 1, "maxProperties": 2}}
    ),
    {"type": "object", "properties": {"a b": {"type": "string"}, "c": {"type": "string"}}, "required": ["c"]},
    closed(
        {
            "from": {"type": "string"},
            "my-key": {"type": "boolean"},
            "class": {"type": "integer"},
            "Z": {"type": "string"},
        }
    ),
    closed(
        {
            "when": {"type": "string", "format": "date"},
            "id": {"type": "string", "format": "uuid"},
            "at": {"type": "string", "format": "date-time"},
        }
    ),
]


# What llguidance lets pass and no calendar or number has: such a call is told of when it is finished.
_CHECKED_ONLY = re.compile(r"-02-29|:60(?:\.\d+)?[zZ+-]|\d[eE]\+?\d{3}")


def read(rules: CallRules, tools: Sequence[Tool], text: str) -> tuple[str, list[tuple[str, str]]]:
    """The words and the calls of an answer."""
    parser = AnswerParser(AnswerRules(calls=rules), 0, {tool.name: tool.parameters for tool in tools})
    parser.begin("")
    words, calls = "", list[tuple[str, list[str]]]()
    for delta in [*parser.feed(text), *parser.finish()]:
        if isinstance(delta, ToolCallDelta):
            if delta.name is not None:
                calls.append((delta.name, []))
            calls[-1][1].append(delta.arguments)
        else:
            assert isinstance(delta, TextDelta)
            words += delta.text
    return words, [(name, "".join(pieces)) for name, pieces in calls]


def check(rules: CallRules, tools: Sequence[Tool], text: str) -> int:
    """How many calls a text makes, each one valid."""
    words, calls = read(rules, tools, text)
    assert words.strip() == "", text
    assert calls, text
    if _CHECKED_ONLY.search(text):
        return len(calls)
    schemas = dict(zip([tool.name for tool in tools], tool_schemas(tools), strict=True))
    for name, arguments in calls:
        schema = schemas[name].schema
        assert schema is not None
        assert objection(schema, arguments) is None, (text, name, arguments)
    return len(calls)


def walked(rules: CallRules, schema: Schema, vocabulary: Vocabulary, draw: random.Random, *, parallel: bool) -> int:
    tools = (Tool("do_it", None, schema), Tool("do_it.now", None, {"type": "object", "properties": {}}))
    constraint = of_calls(rules, tools, parallel=parallel)
    plans = [
        *filter(None, (rules.end, rules.section_end, rules.value_end, rules.value_end and f"\n{rules.value_end}")),
        '"',
        "}",
    ]
    text = vocabulary.walk(constraint, draw, plans)
    return 0 if text is None else check(rules, tools, text)


@pytest.mark.parametrize("family", [*RULES, *ALSO_BARE])
def test_every_text_is_a_valid_call(family: str) -> None:
    rules = {**RULES, **ALSO_BARE}[family]
    draw = random.Random(family)
    vocabularies = [BYTES, Vocabulary(controls(rules))]
    schemas = [*OWN, *(argued(schema) for schema in SCHEMAS if "uniqueItems" not in schema)] * WALKS
    made = [walked(rules, schema, draw.choice(vocabularies), draw, parallel=draw.random() < 0.6) for schema in schemas]
    assert sum(map(bool, made)) > len(made) * 0.9
    assert max(made) > 1, "never two calls"


@pytest.mark.parametrize(
    ("family", "call"),
    [
        ("Qwen3-Coder", "<tool_call>\n<function=do_it>\n<parameter=a>{}</parameter>\n</function>\n</tool_call>"),
        ("Gemma 4", '<|tool_call>call:do_it{{a:<|"|>{}<|"|>}}<tool_call|>'),
    ],
)
def test_a_text_holds_no_end_of_its_own(family: str, call: str) -> None:
    """Not even where its schema wants more of it, nor in letters where the end is a control token."""
    rules = RULES[family]
    end = rules.value_end or '<|"|>'
    tools = (Tool("do_it", None, closed({"a": {"type": "string", "minLength": 8}})),)
    constraint = of_calls(rules, tools, parallel=False)
    spelled = Vocabulary([*controls(rules), '<|"|>'])
    before, behind = call.format("{}").replace("{{", "{").split("{}")
    for inner, is_fine in (("a < b </b>", True), ("short", False), (f"ab{end}cdefghijk", False)):
        assert (BYTES.takes(constraint, call.format(inner)) is None) == is_fine, inner
        tokens = [*spelled.tokens(before), *inner.encode(), *spelled.tokens(behind)]
        matcher = spelled.matcher(constraint)
        taken = matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()
        assert taken == is_fine, inner


def test_names_are_those_of_the_tools() -> None:
    tools = (Tool("get", None, {}), Tool("get.all", None, {}))
    constraint = of_calls(GENERIC, tools, parallel=False)
    for name, is_fine in (("get", True), ("get.all", True), ("ge", False), ("get.al", False), ("get.all2", False)):
        call = f'<tool_call>\n{{"name": "{name}", "arguments": {{}}}}\n</tool_call>'
        assert (BYTES.takes(constraint, call) is None) == is_fine, name


def test_what_cannot_be_written_is_left_out_or_refused() -> None:
    python = RULES["LFM2"]
    text = {"type": "string"}
    optional = Tool("f", None, {"properties": {"a b": text, "c": text}, "required": ["c"]})
    constraint = of_calls(python, [optional], parallel=False)
    assert BYTES.takes(constraint, '<|tool_call_start|>[f(c="x")]<|tool_call_end|>') is None
    needed = Tool("f", None, {"properties": {"a b": text}, "required": ["a b"]})
    with pytest.raises(InvalidRequestError, match="cannot be written in this model's calls") as caught:
        of_calls(python, [needed], parallel=False)
    assert caught.value.param == "tools.0.function.parameters.properties.a b"
    with pytest.raises(InvalidRequestError) as caught:
        of_calls(python, [replace(needed, number=3)], parallel=False)
    assert caught.value.param == "tools.3.function.parameters.properties.a b", "where it is in the request"


@pytest.mark.parametrize("where", ["key_end", "name_end"])
def test_an_expression_that_is_more_than_rules_need_is_refused(where: str) -> None:
    rules = replace(QWEN_CODER, **{where: r"(?=a)b"})
    with pytest.raises(InvalidRequestError, match="cannot be"):
        of_calls(rules, [Tool("f", None, closed({"a": {"type": "string"}}))], parallel=False)


def test_letters_are_written_as_they_are_and_control_characters_where_the_schema_has_them() -> None:
    def takes(schema: Schema, value: str) -> bool:
        constraint = of_calls(GENERIC, [Tool("f", None, closed({"a": schema}))], parallel=False)
        call = f'<tool_call>\n{{"name": "f", "arguments": {{"a": {value}}}}}\n</tool_call>'
        return BYTES.takes(constraint, call) is None

    assert takes({"type": "string"}, '"é"')
    assert not takes({"type": "string"}, r'"\u00e9"')
    assert not takes({"type": "string"}, r'"\u0001"')
    assert takes({"const": "\x01"}, r'"\u0001"')


def doubled(word: str, last: Any) -> Schema:
    """Each definition leads twice to the next one."""
    links = {f"d{i}": {word: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(60)}
    return {"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": {**links, "d60": last}}


HOSTILE: dict[str, Schema] = {
    "alternatives": doubled("anyOf", {"type": "null"}),
    "alternatives without a value": doubled("anyOf", False),
    "parts": doubled("allOf", {"type": "null"}),
    "parts of itself": {"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}},
    "more and more parts": {
        "properties": {"a": {"allOf": [{"$ref": "#"}, {"properties": {"a": {"minProperties": 1}}}]}}
    },
    "only itself": {"properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]},
    "a chain": chain(900, {"type": "null"}),
}


@pytest.mark.parametrize("family", ["Hermes", "Qwen3-Coder", "LFM2", "Gemma 4"])
@pytest.mark.parametrize("name", HOSTILE)
def test_schemas_that_lead_on_and_on_are_refused_or_done_with(name: str, family: str) -> None:
    tool = Tool("f", None, {"type": "object", **HOSTILE[name]})
    with contextlib.suppress(InvalidRequestError):
        assert len(of_calls(RULES[family], [tool], parallel=True).text) < 1_000_000
