"""What a request asks of an answer's form: schemas made ready, grammars translated, answers checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from janflask.errors import InvalidRequestError
from janflask.inference.deltas import Done, Event, Finished, RefusalDelta, TextDelta
from janflask.inference.forms.constrained import checked, objection, of_choice, of_grammar, of_schema
from janflask.inference.forms.gbnf import is_lark, lark_of
from janflask.inference.forms.json_schema import prepare
from janflask.inference.forms.schema_formats import YEAR
from tests.fakes.scripted import DONE

STRING = {"type": "string"}


def held(schema: dict[str, Any]) -> dict[str, Any]:
    return prepare(schema, "schema").held


# --- schemas ----------------------------------------------------------------------------------------------------------


def test_annotations_mean_nothing_and_names_of_properties_are_none() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "x",
        "title": "T",
        "x-guidance": {"lenient": True},
        "type": "object",
        "properties": {"title": {"description": "d", **STRING}, "default": {"default": 1, "type": "integer"}},
    }
    expected = {"type": "object", "properties": {"title": STRING, "default": {"type": "integer"}}}
    prepared = prepare(schema, "schema")
    assert prepared.checked == expected
    assert prepared.held == {**expected, "additionalProperties": False}


def test_an_object_that_lists_its_properties_has_no_others() -> None:
    assert held({"properties": {}})["additionalProperties"] is False
    for more in ({"additionalProperties": True}, {"additionalProperties": STRING}):
        assert held({"properties": {}, **more})["additionalProperties"] == next(iter(more.values()))
    assert "additionalProperties" not in held({"type": "object"})
    assert "additionalProperties" not in held({"properties": {}, "patternProperties": {"^x": STRING}})
    merged = held({"allOf": [{"properties": {"a": STRING}}, {"properties": {"b": STRING}}]})
    assert "additionalProperties" not in json.dumps(merged), "each part would forbid the other's"


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "array", "uniqueItems": True}, {"type": "array"}),
        ({"format": "uri-reference", **STRING}, STRING),
        ({"format": "uri", **STRING}, {"format": "uri", **STRING}),
        ({"format": "date", **STRING}, {"format": "date", "pattern": YEAR, **STRING}),
        ({"format": "date", "pattern": "^1", **STRING}, {"format": "date", "pattern": "^1", **STRING}),
        ({"format": "e164", **STRING}, {"pattern": "^\\+[1-9][0-9]{6,14}$", **STRING}),
        ({"format": "email", "pattern": "^(?!x)", **STRING}, {"format": "email", **STRING}),
        ({"type": "integer", "format": "uint8"}, {"type": "integer", "minimum": 0, "maximum": 255}),
        ({"type": "integer", "format": "uint8", "maximum": 9}, {"type": "integer", "minimum": 0, "maximum": 9}),
        ({"type": "number", "format": "double"}, {"type": "number"}),
        ({"type": "integer", "minimum": -(10**30)}, {"type": "integer"}),
        ({"type": "number", "minimum": 1e-9}, {"type": "number"}),
        ({"items": [STRING, True], "additionalItems": False}, {"prefixItems": [STRING, True], "items": False}),
        (
            {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": STRING},
            {"type": "object", "properties": {"a": STRING, "b": STRING}, "additionalProperties": False},
        ),
        (
            {"type": "object", "propertyNames": {"pattern": "^a"}, "additionalProperties": STRING},
            {"type": "object", "patternProperties": {"^a": STRING}, "additionalProperties": False},
        ),
        ({"type": "object", "propertyNames": {"maxLength": 3}}, {"type": "object"}),
        ({"nullable": False, **STRING}, STRING),
    ],
)
def test_what_the_model_is_held_to(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert held(schema) == expected


@pytest.mark.parametrize(
    ("schema", "param", "words"),
    [
        ({"properties": {"a": {"not": {}}}}, "schema.properties.a.not", "say what may be"),
        ({"anyOf": [STRING, {"if": {}}]}, "schema.anyOf.1.if", "use anyOf"),
        ({"contains": {}}, "schema.contains", "is not supported"),
        ({"minItemz": 1}, "schema.minItemz", "is not supported"),
        ({"nullable": True}, "schema.nullable", '"null"'),
        ({"format": ["date"], **STRING}, "schema.format", "must be a string"),
        ({"format": "foo", **STRING}, "schema.format", "'foo' is not supported"),
        ({"format": "foo", "type": "number"}, "schema.format", "'foo' is not supported"),
        ({"items": {"$ref": "http://x/y"}}, "schema.items.$ref", "#/$defs/name"),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a": {}}}, "schema.$ref", "no schema in it"),
        ({"$ref": 5}, "schema.$ref", "#/$defs/name"),
        ({"properties": []}, "schema.properties", "must be an object"),
        ({"anyOf": []}, "schema.anyOf", "not an empty one"),
        ({"anyOf": {}}, "schema.anyOf", "must be a list"),
        ({"items": 5}, "schema.items", "must be a schema"),
        ({"type": "integer", "multipleOf": 10**6}, "schema.multipleOf", "limit is 10000"),
        ({"properties": {f"k{i}": {} for i in range(1001)}}, "schema.properties", "limit is 1000"),
        ({"type": "nothing"}, "schema.type", "no valid JSON schema"),
        ({"properties": {"a": {"maxLength": "x"}}}, "schema.properties.a.maxLength", "no valid JSON schema"),
        ({"description": "x" * 600_000}, "schema", "limit is 524288"),
        ({"const": json.loads("[" * 200 + "]" * 200)}, "schema", "limit is 100 levels"),
        ("text", "schema", "must be a JSON schema"),
    ],
)
def test_what_cannot_be_had_is_refused_with_its_place(schema: Any, param: str, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words.replace("$", r"\$")) as caught:
        of_schema(schema, "schema")
    assert caught.value.param == param
    assert caught.value.message.startswith(param)


def test_references_within_the_schema_are_followed() -> None:
    names = {"a/b": STRING, "c%d": STRING, "e~f": STRING}
    references = ["#/$defs/a~1b", "#/$defs/c%25d", "#/$defs/e~0f", "#"]
    schema = {"anyOf": [{"$ref": reference} for reference in references], "$defs": names}
    assert held(schema) == schema


def test_a_choice_has_texts() -> None:
    with pytest.raises(InvalidRequestError, match="must hold from 1 to"):
        of_choice([], "choice")


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "answer", "words"),
    [
        ({"type": "array", "uniqueItems": True}, "[1,2]", None),
        ({"type": "array", "uniqueItems": True}, "[1,1]", "unique"),
        ({"properties": {"a": {"format": "ipvanynetwork"}}}, '{"a":"10.0.0.0/8"}', None),
        ({"properties": {"a": {"format": "ipvanynetwork"}}}, '{"a":"10.0.0.0/99"}', "at a"),
        ({"format": "uuid4"}, '"00000000-0000-1000-8000-000000000000"', "uuid4"),
        ({"pattern": "^(?!x)"}, '"y"', None),
        ({"pattern": "^(?!x)"}, '"x"', "does not meet"),
        ({"pattern": "^(a+)+$"}, json.dumps("a" * 5000 + "b"), "does not meet"),
        ({"pattern": "(?=a)^(a+)+$"}, json.dumps("a" * 5000 + "b"), "does not meet"),
        ({}, '{"a":', "not the JSON"),
        ({}, "", "not the JSON"),
        ({}, "1" * 5000, "not the JSON"),
        ({}, "[" * 100_000, "not the JSON"),
    ],
)
def test_a_finished_answer_is_checked(schema: dict[str, Any], answer: str, words: str | None) -> None:
    found = objection(of_schema(schema, "schema").schema or "", answer)
    assert (found is None) == (words is None)
    assert words is None or words in (found or "")


def events(*batches: list[Event]) -> Iterator[list[Event]]:
    yield from batches


def test_only_what_is_finished_and_wrong_is_refused_behind_its_text() -> None:
    constrained = of_schema({"type": "array", "uniqueItems": True}, "schema")
    batches: list[list[Event]] = [
        [TextDelta(0, "[1,"), TextDelta(1, "[1,"), TextDelta(2, "[1")],
        [TextDelta(0, "2]"), Finished(0, "stop"), TextDelta(1, "1]"), Finished(1, "stop"), Finished(2, "length")],
        [DONE],
    ]
    out = [event for batch in checked(events(*batches), constrained) for event in batch]
    refusals = [event for event in out if isinstance(event, RefusalDelta)]
    assert [refusal.index for refusal in refusals] == [1]
    assert [event for event in out if not isinstance(event, RefusalDelta)] == [e for batch in batches for e in batch]
    assert out[out.index(refusals[0]) + 1] == Finished(1, "stop")
    assert isinstance(out[-1], Done)


def test_an_answer_under_a_grammar_needs_no_check() -> None:
    batches: list[list[Event]] = [[TextDelta(0, "a"), Finished(0, "stop")]]
    assert list(checked(events(*batches), of_choice(["b"], "choice"))) == batches


# --- grammars ---------------------------------------------------------------------------------------------------------


def test_what_is_regular_becomes_one_lexeme() -> None:
    lark = lark_of('root ::= "(" root ")" | [a-z]* "z" | x\nx ::= "é" [^\\]/-] | .', "grammar")
    assert lark.splitlines() == [
        "%llguidance {}",
        "start: r0",
        "r0: (L0 (r0) L1 | L2 | T1)",
        r"T1: (/\u{e9}/ /[^\u{5d}\u{2f}\u{2d}]/ | /[\s\S]/)",
        r"L0: /\u{28}/",
        r"L1: /\u{29}/",
        "L2: (/[a-z]/)* /z/",
    ]


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        ("", "no rule named root"),
        ('foo ::= "a"', "no rule named root"),
        ("root ::= x", "uses x"),
        ('root ::= "a', "line 1: cannot be read"),
        ('\nroot = "a"', "line 2: cannot be read"),
        ('root ::= ("a"', "does not end"),
        ('root ::= "a")', "does not go on"),
        ("root ::= [z-a]", "ends before it begins"),
        ("root ::= []", "cannot be read|empty set"),
        ('root ::= * "a"', "nothing that"),
        ('root ::= "a"**', "repeats what repeats"),
        ("root ::= <think>", "names a token"),
        ('root ::= "a"\nroot ::= "b"', "line 2: defines root"),
        (r'root ::= "\q"', "unknown escape"),
        (r'root ::= "\uD800"', "no character"),
        ("root ::= " + "(" * 100 + '"a"' + ")" * 100, "limit is 64"),
        ('root ::= "a"{99999}', "limit is 2000"),
        ("".join(f'r{i} ::= "a"\n' for i in range(1001)), "limit is 1000"),
        ("start: a\n" + "".join(f'a{i}: "a"\n' for i in range(2001)), "limit is 2000"),
    ],
)
def test_grammars_that_are_wrong(grammar: str, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words) as caught:
        of_grammar(grammar, "grammar")
    assert caught.value.param == "grammar"


def test_lark_is_told_from_gbnf() -> None:
    assert is_lark('start: "a"')
    assert is_lark('%llguidance {}\nstart[capture]: "a"')
    assert not is_lark('root ::= "a"')
    assert not is_lark('root ::= start\nstart ::= "a"')
