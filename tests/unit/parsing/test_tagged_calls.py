"""Arguments between tags: what is no call, what is cut, and what a value is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from janflask.inference.probing.families import CALLS
from janflask.parsing.answer import AnswerParser
from janflask.parsing.calls import GENERIC, CallRules, Kind
from janflask.parsing.deltas import TextDelta, ToolCallDelta
from janflask.parsing.rules import AnswerRules, Reasoning
from janflask.parsing.values import as_json, takes

QWEN = CallRules(
    Kind.TAGGED,
    start="<tool_call><function=",
    end="</function></tool_call>",
    name_end=">",
    key="<parameter=",
    key_end=">",
    value_end="</parameter>",
    is_framed=True,
)
MINIMAX = dict(CALLS)["]<]minimax[>["]
NS = "]<]minimax[>["
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {}, "c": {"type": "array"}}}


def read(rules: CallRules, *pieces: str) -> tuple[str, list[tuple[str, str]]]:
    parser = AnswerParser(AnswerRules(calls=rules), 0, {"f": SCHEMA})
    deltas = [delta for piece in pieces for delta in parser.feed(piece)] + parser.finish()
    calls: list[tuple[str, str]] = []
    for delta in deltas:
        if isinstance(delta, ToolCallDelta) and delta.name:
            calls.append((delta.name, ""))
        elif isinstance(delta, ToolCallDelta):
            calls[-1] = (calls[-1][0], calls[-1][1] + delta.arguments)
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)), calls


@pytest.mark.parametrize(
    ("text", "said", "arguments"),
    [
        ("<tool_call>\n<function=f>\n</function>\n</tool_call>", "", "{}"),
        ("<tool_call><function=f></function></tool_call>ok", "ok", "{}"),
        ("<tool_call>\n<function=f> is a tool", "<tool_call>\n<function=f> is a tool", None),
        ("<tool_call><function=g></function></tool_call>", "<tool_call><function=g></function></tool_call>", None),
        ("<tool_call><function=f><parameter=a>\n\n x\n\n</parameter></function></tool_call>", "", '{"a": "\\n x\\n"}'),
        ("<tool_call><function=f><parameter=a>x</parameter></function></tool_call>", "", '{"a": "x"}'),
        ("<tool_call><function=f><parameter=b>\n[1, 2]\n</parameter></function></tool_call>", "", '{"b": [1, 2]}'),
        ("<tool_call><function=f><parameter=a>\nx</par", "", '{"a": "x'),  # cut: what was written
        ("<tool_call><function=f><parameter=a>\nx</parameter>\n<param", "", '{"a": "x"}'),
        ("<tool_call><function=f>", "", "{}"),
    ],
)
def test_tags(text: str, said: str, arguments: str | None) -> None:
    expected = said, [] if arguments is None else [("f", arguments)]
    assert read(QWEN, text) == expected
    assert read(QWEN, *text) == expected


@pytest.mark.parametrize(
    ("inner", "arguments"),
    [
        ("", {}),
        ("<a>x</a>", {"a": "x"}),
        ("<a> <b>1</b> </a>", {"a": " <b>1</b> "}),  # no elements: the tags of a text have no token before them
        (f"<b>{NS}<x>1{NS}</x>{NS}<y>z{NS}</y>{NS}</b>", {"b": {"x": 1, "y": "z"}}),
        (f"<b>{NS}<b>{NS}<b>1{NS}</b>{NS}</b>{NS}</b>", {"b": {"b": {"b": 1}}}),
        (f"<b>{NS}<item>1{NS}</item>{NS}<item>{NS}<item>2{NS}</item>{NS}</item>{NS}</b>", {"b": [1, [2]]}),
        (f"<c>{NS}<entry>1{NS}</entry>{NS}</c>", {"c": [1]}),
        (f"<c>{NS}</c>", {"c": []}),
        (f"<c>[1]{NS}</c>", {"c": [1]}),
    ],
)
def test_elements(inner: str, arguments: dict[str, Any]) -> None:
    inner = inner if inner.count(NS) else inner.replace("</a>", f"{NS}</a>")
    body = f"{NS}{inner}" if inner else ""
    text = f'{NS}<tool_call>\n{NS}<invoke name="f">{body}{NS}</invoke>\n{NS}</tool_call>'
    for pieces in ([text], list(text)):
        said, calls = read(MINIMAX, *pieces)
        assert (said, [(name, json.loads(written)) for name, written in calls]) == ("", [("f", arguments)])


def test_elements_too_deep_within_one_another_are_no_call() -> None:
    for deep, is_whole in ((190, True), (2000, False)):
        inner = f"{NS}<b>" * deep + "1" + f"{NS}</b>" * deep
        text = f'{NS}<tool_call>\n{NS}<invoke name="f">{inner}{NS}</invoke>\n{NS}</tool_call>'
        for size in (len(text), 7):
            ((name, written),) = read(MINIMAX, *(text[at : at + size] for at in range(0, len(text), size)))[1]
            assert (name, written.endswith("}" * deep)) == ("f", is_whole)


@pytest.mark.parametrize("rules", [QWEN, GENERIC], ids=["tags", "json"])
def test_what_follows_a_broken_call_does_not_depend_on_the_pieces(rules: CallRules) -> None:
    text = (
        "<tool_call><function=f><parameter=b>1</parameter>junk and more words"
        if rules is QWEN
        else '<tool_call>\n{"name": "f", "arguments": {"b": 1} junk and more words'
    )
    whole = read(rules, text)
    assert "and more words" in whole[0]
    for size in (1, 3, 4, 7):
        assert read(rules, *(text[at : at + size] for at in range(0, len(text), size))) == whole


def test_a_bracket_is_no_marker() -> None:
    parser = AnswerParser(AnswerRules(calls=MINIMAX), 0, {"f": SCHEMA})
    assert [delta.text for delta in parser.feed("a[0]") if isinstance(delta, TextDelta)] == ["a[0"]
    assert [delta.text for delta in parser.feed(" = 1") if isinstance(delta, TextDelta)] == ["] = 1"]


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("12", {"type": "integer"}, "12"),
        ("12", {"type": ["string", "null"]}, '"12"'),
        ("null", {"type": ["string", "null"]}, "null"),
        (" a ", {"anyOf": [{"type": "string"}, {"type": "null"}]}, '" a "'),
        ("12", {"anyOf": [{"type": "string"}, {"type": "integer"}]}, "12"),
        ("1", {"enum": ["1", "2"]}, '"1"'),
        ("1", {"const": "1"}, '"1"'),
        ("1", {"enum": [1, 2]}, "1"),
        ("True", {"type": "boolean"}, "true"),
        ("True", {}, '"True"'),
        ("['a', None]", {"type": "array"}, '["a", null]'),
        ("['a']", None, "\"['a']\""),
        ("os.exit()", {"type": "object"}, '"os.exit()"'),
        ("NaN", {"type": "number"}, '"NaN"'),
        (" 1.50 ", {"type": "number"}, "1.50"),
        ("x", {"type": "integer"}, '"x"'),
        ("{" * 9000, {"type": "object"}, json.dumps("{" * 9000)),
    ],
)
def test_a_value_is_what_its_schema_takes(text: str, schema: object, value: str) -> None:
    assert as_json(text, schema) == value


@pytest.mark.parametrize(
    ("value", "name", "is_taken"),
    [(True, "integer", False), (1.0, "integer", True), (1.5, "integer", False), (1, "number", True), (1, "odd", True)],
)
def test_types(value: object, name: str, is_taken: bool) -> None:
    assert takes({"type": name}, value) is is_taken


WORDS = AnswerRules(wraps=(">>>all\n",), calls=CallRules(Kind.NAMED, start=">>>"), prompted=">>>")


@pytest.mark.parametrize(
    ("text", "said", "n_calls"),
    [
        ("all\nHi >>> x", "Hi >>> x", 0),
        ('f\n{"b": 1}', "", 1),
        ('f\n{"b": 1}>>>f\n{"b": 2}', "", 2),
        ('all\nHi>>>f\n{"b": 1}', "Hi", 1),
        ("Hi", "Hi", 0),  # it forgot to whom
        ("all", "all", 0),
        ("al", "al", 0),
        ("g\n{}", "g\n{}", 0),
        (">>>x", ">>>x", 0),
        ("", "", 0),
    ],
)
def test_a_marker_that_begins_in_the_prompt(text: str, said: str, n_calls: int) -> None:
    for tools, expected in (({"f": SCHEMA}, (said, n_calls)), (None, None)):
        for pieces in ([text], list(text)):
            parser = AnswerParser(WORDS, 0, tools)
            parser.begin("assistant\n\n>>>")
            deltas = [delta for piece in pieces for delta in parser.feed(piece)] + parser.finish()
            calls = [delta for delta in deltas if isinstance(delta, ToolCallDelta) and delta.name]
            found = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)), len(calls)
            assert found == (expected or (text.removeprefix("all\n"), 0))


def test_what_was_said_is_written_behind_such_a_prompt() -> None:
    assert WORDS.written("a>>>", "", "Hi") == "all\nHi"
    assert WORDS.written("a>>>all\n", "", "Hi") == "Hi"
    assert WORDS.written("a", "", "Hi") == ">>>all\nHi"
    parser = AnswerParser(WORDS, 0, {"f": SCHEMA})
    parser.begin("a>>>", "all\nHi")
    assert [delta.text for delta in parser.feed(" you") if isinstance(delta, TextDelta)] == [" you"]


RESPONSE = AnswerRules(Reasoning("<t>", "</t>"), ("<r>",), ("</r>", "</m>"))


@pytest.mark.parametrize(
    ("prompt", "text", "said"),
    [
        ("", "</t><r>Hi</r></m>", "Hi"),  # nothing was thought, and that is all it says of it
        ("a<r>", "Hi</r></m>", "Hi"),  # the prompt opened it
        ("a<r>", "\nHi", "\nHi"),
        ("", "</r>Hi", "</r>Hi"),
        ("", "<r></r></m></r>Hi", "Hi"),
    ],
)
def test_what_leads_and_ends_words(prompt: str, text: str, said: str) -> None:
    for pieces in ([text], list(text)):
        parser = AnswerParser(RESPONSE)
        parser.begin(prompt)
        deltas = [delta for piece in pieces for delta in parser.feed(piece)] + parser.finish()
        assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == said
