"""`JANFLASK_LOG_PROMPTS`: what is asked and answered is in the log, whoever asks for it, and only then."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from janflask import create_app
from tests.unit.api.conftest import World
from tests.unit.api.running import running

MESSAGES = [{"role": "user", "content": "Xylophonwort"}]


@pytest.mark.parametrize("logs", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "tiny", "messages": MESSAGES}),
        ("/v1/chat/completions", {"model": "tiny", "messages": MESSAGES, "stream": True}),
        ("/v1/messages", {"model": "tiny", "messages": MESSAGES, "max_tokens": 8}),
        ("/v1/responses", {"model": "tiny", "input": "Xylophonwort"}),
        ("/v1/responses", {"model": "tiny", "input": "Xylophonwort", "store": False}),
        ("/v1/threads/runs", {"model": "tiny", "thread": {"messages": MESSAGES}, "stream": True}),
    ],
)
def test_words_are_in_the_log_where_they_shall_be(
    world: World, path: str, body: Any, logs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world.settings = replace(world.settings, log_prompts=logs)
    with running(world):
        client = create_app(world.settings).test_client()
        with client.post(path, json=body, headers={"X-Request-Id": "req-1"}) as response:
            assert response.status_code == 200
            assert response.data
    words = [record.getMessage() for record in caplog.records if record.name == "janflask.words"]
    assert len(words) == (2 if logs else 0)
    if logs:
        assert words[0].startswith("request req-1: tiny asked: ")
        assert '"text": "Xylophonwort"' in words[0]
        assert words[1].startswith('request req-1: tiny answered: {"choices": [{"text": "')
    assert logs or "Xylophonwort" not in caplog.text
