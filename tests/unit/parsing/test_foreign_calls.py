"""Calls in other notations than JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from janflask.parsing.foreign import gemma_calls, python_calls


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("[f(a=1), g.h()]", [("f", {"a": 1}), ("g.h", {})]),
        ("f(a='x\ny', b=[True, None], c={'d': -1.5})", [("f", {"a": "x\ny", "b": [True, None], "c": {"d": -1.5}})]),
    ],
)
def test_pythons_calls(text: str, calls: list[tuple[str, Any]]) -> None:
    assert [(name, json.loads(arguments)) for name, arguments in python_calls(text) or ()] == calls


@pytest.mark.parametrize(
    "text",
    ["", "[", "f", "f(1)", "f(**a)", "f(a=g())", "f(a=open)", "[f(a=1), 2]", "f(a=1e999)", "f(a={1})", "(" * 500],
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
