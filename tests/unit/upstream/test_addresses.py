"""Base URLs, and what is shown of a foreign text."""

from __future__ import annotations

import pytest

from janflask.errors import ConflictError
from janflask.inference.upstream.address import parse_base_url
from janflask.inference.upstream.problems import MAX_SHOWN, Where


@pytest.mark.parametrize(
    ("url", "shown", "host", "port", "header", "base", "root"),
    [
        ("http://10.0.0.2:8000/v1", "http://10.0.0.2:8000/v1", "10.0.0.2", 8000, "10.0.0.2:8000", "/v1", ""),
        ("https://Example.com/v1/", "https://example.com/v1", "example.com", 443, "example.com", "/v1", ""),
        ("http://[::1]:81/a/v1", "http://[::1]:81/a/v1", "::1", 81, "[::1]:81", "/a/v1", "/a"),
        ("http://x", "http://x", "x", 80, "x", "", ""),
        ("https://x:80/openai", "https://x:80/openai", "x", 80, "x:80", "/openai", "/openai"),
    ],
)
def test_base_urls(url: str, shown: str, host: str, port: int, header: str, base: str, root: str) -> None:
    address = parse_base_url(url)
    assert (address.url, address.host, address.port) == (shown, host, port)
    assert (address.host_header, address.base, address.root) == (header, base, root)
    assert address.secure is url.startswith("https")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "10.0.0.2:8000/v1",
        "ftp://x/v1",
        "http:///v1",
        "http://x:99999/v1",
        "http://x:y/v1",
        "http://x/v1?key=1",
        "http://x/v1#a",
        "http://x/v 1",
        "http://x/v1\r\nHost: y",
        "http://ü.example/v1",
        "http://[::1/v1",
    ],
)
def test_what_is_no_base_url(url: str) -> None:
    with pytest.raises(ConflictError, match="of the model's upstream") as caught:
        parse_base_url(url)
    assert "key=1" not in caught.value.message


@pytest.mark.parametrize("url", ["http://me:secret@x/v1", "http://secret@x/v1", "http://secret@[::1/v1"])
def test_a_password_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConflictError) as caught:
        parse_base_url(url)
    assert "secret" not in caught.value.message


def test_foreign_texts_are_shown_in_one_line_without_the_key() -> None:
    where = Where("http://x", "m", "sk-secret")
    assert where.shown("a\r\n\tb\x1b[31m sk-secret") == "a b [31m ***"
    assert where.shown(b"\xff") == "\ufffd"
    assert len(where.shown("x" * 9999)) == MAX_SHOWN
    long = "y" * (4 * MAX_SHOWN - 4) + "sk-secret"  # cut before it was looked for, a part of it would remain
    assert "sk-" not in where.shown(long)
    assert "sk-secret" not in repr(where)
