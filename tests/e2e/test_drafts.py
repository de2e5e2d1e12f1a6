"""Guessing ahead over HTTP, as it is by default: no answer is another one than without, alone or beside others."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from janflask_ext import rows
from tests.e2e.server import MODEL, Server, serving

pytestmark = pytest.mark.skipif(rows.install() is not None, reason=f"no rows are exact here: {rows.install()}")

LIST = "".join(f"- item {number}: the {word} is on shelf {number}\n" for number, word in enumerate(["cup", "pen"] * 5))
PROMPT = f"The list:\n{LIST}\nThe list once more, word for word:\n- item 0: the"
ROW = {"type": "object", "properties": {"item": {"enum": ["cup", "pen"]}, "shelf": {"type": "integer", "maximum": 9}}}
SCHEMA = {"type": "array", "minItems": 4, "maxItems": 5, "items": {**ROW, "required": ["item", "shelf"]}}
ASKED: list[dict[str, Any]] = [
    {"prompt": PROMPT, "temperature": 0},
    {"prompt": PROMPT, "temperature": 0.8, "seed": 7},
    {"prompt": f"{LIST}{LIST[:120]}", "temperature": 0.3, "seed": 1, "frequency_penalty": 0.1},
    {"prompt": f"{LIST}As JSON:\n", "temperature": 0, "json_schema": SCHEMA},
]
LIMIT = 90.0  # seconds until rows were tried; a quiet machine needs two


def answer(server: Server, asked: dict[str, Any], max_tokens: int = 60) -> tuple[str, int]:
    """The text, and how many of its tokens were guessed."""
    reply = server.post("/v1/completions", json={"model": MODEL, "max_tokens": max_tokens, **asked})
    body = reply.json()
    assert reply.is_success, body
    return body["choices"][0]["text"], body["usage"]["completion_tokens_details"]["accepted_prediction_tokens"]


def await_guesses(server: Server) -> None:
    """Rows are tried while nobody waits."""
    deadline = time.monotonic() + LIMIT
    while not answer(server, ASKED[0])[1]:
        assert time.monotonic() < deadline, "nothing is guessed"
        time.sleep(1.0)


def answers(server: Server) -> list[list[str]]:
    """All alone, and twice as many as there are slots at once."""
    alone = [answer(server, asked)[0] for asked in ASKED]
    with ThreadPoolExecutor(16) as pool:
        together = [text for text, _ in pool.map(lambda asked: answer(server, asked, 40), ASKED * 4)]
    return [alone, together]


@pytest.mark.parametrize("settings", [{}, {"JANFLASK_REPRODUCIBLE": "1"}], ids=["default", "reproducible"])
def test_answers_are_those_without_drafts(own_dir: Path, settings: dict[str, str]) -> None:
    with serving(own_dir, JANFLASK_CTX_LEN="512", **settings) as server:
        server.start().raise_for_status()
        await_guesses(server)
        before = server.stats()["accepted_tokens"]
        guessed = answers(server)
        assert server.stats()["accepted_tokens"] > before
        server.stop().raise_for_status()
        server.start(drafts=0).raise_for_status()
        plain = answers(server)
        assert server.stats()["drafted_tokens"] == 0
    assert guessed == plain
    if settings:
        # Beside others they are what they are alone, too, and of another server.
        assert all(text.startswith(part) for text, part in zip(plain[0] * 4, plain[1], strict=True))
        with serving(own_dir, JANFLASK_CTX_LEN="512", **settings) as server:
            server.start().raise_for_status()
            assert [answer(server, asked)[0] for asked in ASKED] == plain[0]
