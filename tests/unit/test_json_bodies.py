"""JSON bodies: how deep, how many values; numbers that no machine holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from janflask.errors import InvalidRequestError
from janflask.models.json_bodies import MAX_DEPTH, decoded, is_deeper, limit_values


def refused(body: bytes, limit: int = 1000) -> str | None:
    with pytest.raises(InvalidRequestError) as caught:
        decoded(body, limit)
    assert caught.value.status == 400
    return caught.value.code


@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth(start: str, end: str) -> None:
    levels = MAX_DEPTH // len(end)
    assert decoded(f"{start * levels}1{end * levels}".encode(), 1000)
    assert refused(f"{start * (levels + 1)}1{end * (levels + 1)}".encode()) == "too_deep"


@pytest.mark.parametrize("levels", [2_000, 1_000_000])
def test_what_is_very_deep(levels: int) -> None:
    assert refused(b"[" * levels + b"]" * levels, 10**9) == "invalid_json"
    assert refused(b"[" * levels, 10**9) == "invalid_json"


def test_wide_is_not_deep() -> None:
    assert len(decoded(b"[" + b"[[]]," * 300 + b"1]", 1000)) == 301


VALUES = {
    "numbers": ("1", 1),
    "lists": ("[]", 2),
    "objects": ('{"a":{}}', 4),
    "texts": ('"x,y:[{\\" z"', 1),
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_are_counted_and_their_texts_are_not(kind: str) -> None:
    one, marks = VALUES[kind]
    document = [json.loads(one)] * 1500
    body = json.dumps(document, separators=(",", ":")).encode()
    assert decoded(body, 1500 * (marks + 1) + 2) == document
    assert refused(body, 1499) == "too_many_values"


@pytest.mark.parametrize("one", [1, ",", "x"])
def test_the_outermost_value_counts_with_and_without_texts(one: Any) -> None:
    body = json.dumps([one] * 999, separators=(",", ":")).encode()
    assert len(decoded(body, 1000)) == 999
    assert refused(body, 999) == "too_many_values"


def test_a_small_body_is_not_looked_through() -> None:
    limit_values(b"[,,,,,,,]", 10, "body")  # no JSON, but no more than ten values either


@pytest.mark.parametrize("text", ['"\\', '"', '"x', '[",', '"\\\\\\'])
def test_texts_without_an_end(text: str) -> None:
    assert refused((text + "," * 5000).encode(), 1000) in ("invalid_json", "too_many_values")


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "1e400", "-1e999999", "1" * 1_000_000])
def test_numbers_that_no_machine_holds(number: str) -> None:
    assert refused(f'{{"n": {number}}}'.encode(), 10**9) == "invalid_json"


@pytest.mark.parametrize("number", ["1." + "1" * 100_000, "0." + "0" * 100_000 + "1"])
def test_long_numbers_that_one_holds(number: str) -> None:
    assert isinstance(decoded(f"[{number}]".encode(), 10**9)[0], float)


@pytest.mark.parametrize(("value", "depth"), [(1, 0), ([], 1), ({"a": []}, 2), ([[], [[]]], 3), ((({},),), 3)])
def test_is_deeper(value: Any, depth: int) -> None:
    assert not is_deeper(value, depth)
    assert depth == 0 or is_deeper(value, depth - 1)
