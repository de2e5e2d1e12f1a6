"""Calls in other notations than JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from janflask.parsing.foreign import gemma_calls, is_open, is_open_json, python_calls


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("[f(a=1), g.h()]", [("f", {"a": 1}), ("g.h", {})]),
        ("f(a='x\ny', b=[True, None], c={'d': -1.5})", [("f", {"a": "x\ny", "b": [True, None], "c": {"d": -1.5}})]),
        ("f(a=true, b={'c': null, \"d\": [false]})", [("f", {"a": True, "b": {"c": None, "d": [False]}})]),
        ("[get-it(from='a', my-key=1, class=(1, 2,),)]", [("get-it", {"from": "a", "my-key": 1, "class": [1, 2]})]),
        (
            "f(a='it\\'s', b=\"\\u00e9\\ud83d\\ude00\\x41\\/\\n\", c='\\d')",
            [("f", {"a": "it's", "b": "é😀A/\n", "c": "\\d"})],
        ),
        ("f(a='', b='''x 'y' ''', c=1_000, d=.5)", [("f", {"a": "", "b": "x 'y' ", "c": 1000, "d": 0.5})]),
        ("f(e=-2., f=1e3)", [("f", {"e": -2.0, "f": 1e3})]),
    ],
)
def test_pythons_calls(text: str, calls: list[tuple[str, Any]]) -> None:
    assert [(name, json.loads(arguments)) for name, arguments in python_calls(text) or ()] == calls


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "f",
        "f(1)",
        "f(**a)",
        "f(a=g())",
        "f(a=open)",
        "[f(a=1), 2]",
        "f(a=1e999)",
        "f(a={1})",
        "f(a={1: 2})",
        "f(a=1",
        "f(a='x)",
        "f(a='\\ud800')",
        "(" * 500,
    ],
)
def test_what_is_no_call_of_pythons(text: str) -> None:
    assert python_calls(text) is None


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        (
            'f{a:<|"|>x:{y,z:1}<|"|>,b-c:[1,true],d:{e:null}}',
            "f",
            {"a": "x:{y,z:1}", "b-c": [1, True], "d": {"e": None}},
        ),
        ("f{}", "f", {}),
        ('f{a:None,b:[None, 1],None:<|"|>[None]<|"|>}', "f", {"a": None, "b": [None, 1], "None": "[None]"}),
    ],
)
def test_gemmas_calls(text: str, name: str, arguments: dict[str, Any]) -> None:
    found = gemma_calls(text)
    assert found is not None
    assert [(found[0][0], json.loads(found[0][1]))] == [(name, arguments)]


@pytest.mark.parametrize("text", ["", "f", "f{a}", "{a:1}", 'f{a:<|"|>x}', "f[1]", "f{a:b}"])
def test_what_is_no_call_of_gemmas(text: str) -> None:
    assert gemma_calls(text) is None


@pytest.mark.parametrize(
    ("text", "is_within"),
    [
        ("", False),
        ("f(a='x", True),
        ("f(a='x')", False),
        ('f(a="it\'s")', False),
        ("f{a:<|\"|>it's", True),
        ('f{a:<|"|>"<|"|>}', False),
    ],
)
def test_a_text_that_ends_within_a_string(text: str, is_within: bool) -> None:
    assert is_open(text) == is_within


@pytest.mark.parametrize(
    ("text", "is_within"),
    [
        ("", False),
        ('it is 5" long', False),
        ('["a', True),
        ('{"a": "\\"', True),
        ('{"a": "b"}', False),
        (' "a"', False),
    ],
)
def test_a_json_text_that_ends_within_a_string(text: str, is_within: bool) -> None:
    assert is_open_json(text) == is_within
