"""Whether a body says that it is to be stored, before anybody has looked whether it is right."""

from __future__ import annotations

import tracemalloc

import pytest
from flask import Flask

from janflask.access.scopes import Scope
from janflask.api.plumbing.storing import stores

RESPONSES, CHAT = "/v1/responses", "/v1/chat/completions"


def stored(app: Flask, path: str, body: bytes) -> bool:
    with app.test_request_context(path, method="POST", data=body, content_type="application/json"):
        return stores(Scope.CONVERSATIONS)


@pytest.mark.parametrize(
    ("body", "responses", "chat"),
    [
        (b"{}", True, False),
        (b'{"store": null}', True, False),
        (b'{"store" :\n true }', True, True),
        (b'{"store": false}', False, False),
        (b'{"\\u0073tore": true}', True, True),
        (b'{"store": [1, {}], "store": true}', True, True),  # the last one counts, as where the body is looked at
        (b'{"store": "true"}', False, False),
        (b'{"store": 1}', False, False),
        (b'{"store": true', False, False),
        (b'{"store": ' + b"[" * 100_000, False, False),
        (b"[]", False, False),
        (b"\xff", False, False),
        (b"", False, False),
    ],
)
def test_what_a_body_says(app: Flask, body: bytes, responses: bool, chat: bool) -> None:
    assert (stored(app, RESPONSES, body), stored(app, CHAT, body)) == (responses, chat)


def test_values_that_nobody_has_counted_are_not_made(app: Flask) -> None:
    body = b'{"store": [' + b"[]," * 300_000 + b"1]}"
    stored(app, RESPONSES, b"{}")  # what a first request makes
    tracemalloc.start()
    try:
        assert not stored(app, RESPONSES, body)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(body)
    finally:
        tracemalloc.stop()
