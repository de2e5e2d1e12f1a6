"""Patterns of a part of a text, as expressions for the whole text."""

from __future__ import annotations

import re

import pytest

from janflask.inference.forms.raw_text import FORMATS, whole


@pytest.mark.parametrize(
    ("pattern", "expression"),
    [
        ("^a+$", "(?:a+)"),
        ("a", "(?s:.*)(?:a)(?s:.*)"),
        ("^a", "(?:a)(?s:.*)"),
        (r"a\\$", r"(?s:.*)(?:a\\)"),
        (r"a\$", r"(?s:.*)(?:a\$)(?s:.*)"),
        ("[$^]", "(?s:.*)(?:[$^])(?s:.*)"),
        ("^(?:a|b)$", "(?:(?:a|b))"),
        ("a|b", "(?s:.*)(?:a|b)(?s:.*)"),
        ("^a|b$", None),
        ("^a$|^b$", None),
        (None, None),
    ],
)
def test_a_pattern_for_the_whole_text(pattern: str | None, expression: str | None) -> None:
    assert whole(pattern) == expression


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("date", "2024-12-31"),
        ("time", "23:59:59Z"),
        ("date-time", "2024-02-28T01:02:03.5+02:00"),
        ("duration", "PT4H"),
        ("email", "a.b@example.org"),
        ("hostname", "example.org"),
        ("ipv4", "127.0.0.1"),
        ("ipv6", "2001:0:0:0:0:0:0:1"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000"),
        ("uri", "https://example.org/a?b=c#d"),
    ],
)
def test_formats_that_a_text_between_tags_is_held_to(name: str, text: str) -> None:
    assert re.fullmatch(FORMATS[name], text)
    assert not re.fullmatch(FORMATS[name], f"{text} ")
