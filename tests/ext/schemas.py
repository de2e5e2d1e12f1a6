"""JSON schemas: ordinary ones, by which answers are generated, and those that are meant to do harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from janflask.inference.forms.constrained import Constrained, of_grammar, of_regex, of_schema

Schema = dict[str, Any]


def closed(properties: Schema, **more: Any) -> Schema:
    """An object with all of its properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


WORD: Schema = {"type": "string", "maxLength": 12}
PERSON = closed({"name": WORD, "age": {"type": "integer", "minimum": 0, "maximum": 120}})

SCHEMAS: list[Schema] = [
    PERSON,
    closed({"name": WORD, "color": {"enum": ["red", "green", "dark blue"]}, "ok": {"type": "boolean"}}),
    closed({"people": {"type": "array", "items": PERSON, "minItems": 1, "maxItems": 2}}),
    closed({"a": closed({"b": closed({"c": closed({"d": {"type": "null"}})})})}),
    {"type": "object", "properties": {"x": {"type": "number"}, "y": WORD}},
    {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 5}, "minItems": 2, "maxItems": 4},
    {"type": "array", "prefixItems": [WORD, {"type": "integer"}], "items": False, "minItems": 2},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 2, "maxItems": 3, "uniqueItems": True},
    {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "integer"}, {"type": "null"}]},
    {"oneOf": [closed({"kind": {"const": "cat"}, "lives": {"type": "integer"}}), closed({"kind": {"const": "dog"}})]},
    {"type": ["string", "null"], "maxLength": 8},
    {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    {"type": "string", "pattern": "^(foo|ba[rz])+$", "maxLength": 12},
    {"type": "string", "minLength": 3, "maxLength": 3},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "email", "maxLength": 30},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "time"},
    {"type": "number", "minimum": 0.5, "maximum": 2.5},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 700},
    {"type": "integer", "exclusiveMinimum": 10, "exclusiveMaximum": 13},
    {"const": {"a": [1, "x", None, True], "b": {"c": 1.5}}},
    {"enum": ["ja", "nein", 1, None, [1, 2], {"x": "y"}]},
    {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": closed(
                {
                    "value": {"type": "integer", "minimum": 0, "maximum": 9},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                }
            )
        },
    },
    closed(
        {"größe": {"type": "integer", "minimum": 0, "maximum": 300}, "имя": WORD, "名前": WORD, "🎉": {"const": "é\n"}}
    ),
    closed({'quoted "key"': WORD, "back\\slash": {"type": "boolean"}, "tab\t": {"type": "null"}}),
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1, "maxProperties": 3},
    {
        "type": "object",
        "patternProperties": {"^x_[a-z]{1,4}$": WORD},
        "additionalProperties": False,
        "minProperties": 1,
    },
    {"type": "object", "propertyNames": {"pattern": "^[a-z]{2,5}$"}, "additionalProperties": {"type": "boolean"}},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 8}]},
    closed({"a": {"type": "string", "const": "<|im_end|>"}, "b": {"enum": ["<tool_call>", "</s>"]}}),
    closed(
        {
            "when": {"type": "string", "format": "date"},
            "where": closed({"lat": {"type": "number", "minimum": -90, "maximum": 90}}),
        }
    ),
    closed({f"key{i}": {"enum": [f"value {i}", i]} for i in range(8)}),
    {
        "type": "object",
        "properties": {"a": WORD, "b": WORD, "c": WORD},
        "required": ["b"],
        "additionalProperties": False,
    },
    {"type": "array", "items": {"anyOf": [PERSON, WORD]}, "minItems": 1, "maxItems": 2},
    closed(
        {
            "title": {"title": "T", "description": "d", "default": "x", **WORD},
            "default": {"type": "boolean", "examples": [True]},
        }
    ),
    closed(
        {
            "matrix": {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": {
                    "type": "array",
                    "minItems": 2,
                    "maxItems": 2,
                    "items": {"type": "integer", "minimum": 0, "maximum": 9},
                },
            }
        }
    ),
]


def nested(levels: int) -> Schema:
    schema: Schema = {"type": "string"}
    for _ in range(levels):
        schema = closed({"a": schema})
    return schema


def chain(length: int, last: Schema) -> Schema:
    """A reference to a reference to a reference ..."""
    links = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{length}": last}}


def schema(document: Any) -> Callable[[], Constrained]:
    return lambda: of_schema(document, "schema")


def grammar(text: str) -> Callable[[], Constrained]:
    return lambda: of_grammar(text, "grammar")


def regex(text: str) -> Callable[[], Constrained]:
    return lambda: of_regex(text, "regex")


HOSTILE: Mapping[str, Callable[[], Constrained]] = {
    "deep": schema(nested(5000)),
    "rather deep": schema(nested(45)),
    "wide": schema({"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(50_000)}}),
    "rather wide": schema({"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(1000)}}),
    "long": schema({"description": "x" * 1_000_000}),
    "chain": schema(chain(900, {"type": "string"})),
    "long chain": schema(chain(20_000, {"type": "string"})),
    "circle": schema({"$ref": "#"}),
    "circles": schema({"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {}]}}}),
    "fork": schema(
        {"allOf": [{"anyOf": [{"type": "string", "minLength": i + j} for j in range(6)]} for i in range(12)]}
    ),
    "fetch": schema({"$ref": "http://127.0.0.1:9/secret"}),
    "fetch by id": schema(
        {"$id": "http://127.0.0.1:9/x", "$schema": "http://127.0.0.1:9/s", "$ref": "file:///etc/passwd"}
    ),
    "lenient": schema({"type": "array", "x-guidance": {"lenient": True}, "contains": {}}),
    "backtracking": schema({"type": "string", "pattern": "^(a+)+$"}),
    "look ahead": schema({"type": "string", "pattern": "^(?=(a+)+$)a{40}b"}),
    "repetitions": schema({"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$"}),
    "automaton": schema({"type": "string", "pattern": "^.*a.{500}$"}),
    "many items": schema({"type": "array", "items": {"enum": list(range(500))}, "minItems": 100_000}),
    "long string": schema({"type": "string", "minLength": 10_000_000}),
    "divisor": schema({"type": "integer", "multipleOf": 99_991}),
    "impossible": schema({"type": "object", "required": ["a"], "additionalProperties": False}),
    "left recursion": grammar('root ::= root "a"'),
    "only itself": grammar("root ::= root"),
    "ambiguous": grammar('root ::= root root | "a" | ""'),
    "many rules": grammar("root ::= r0\n" + "".join(f"r{i} ::= r{i + 1}\n" for i in range(30_000)) + 'r30000 ::= "a"'),
    "many rules of Lark": grammar("start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(30_000)) + 'r30000: "a"'),
    "groups": grammar("root ::= " + "(" * 5000 + '"a"' + ")" * 5000),
    "groups of Lark": grammar("start: " + "(" * 5000 + '"a"' + ")" * 5000),
    "regex groups": regex("(" * 5000 + "a" + ")" * 5000),
    "regex repetitions": regex("((a{1,1000}){1,1000}){1,1000}"),
    "regex of a megabyte": regex("a" * 1_000_000),
    "no regex": regex("(a"),
    "numbers": schema(json.loads('{"type": "integer", "minimum": -1' + "0" * 300 + "}")),
}
