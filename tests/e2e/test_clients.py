"""Clients that read slowly or go away: nobody else notices, and nothing stays occupied."""

from __future__ import annotations

import select
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from tests.e2e.server import LARGE, MODEL, Server, raw_request, wait_for

MESSAGES: Any = [{"role": "user", "content": "Tell me a story."}]
# Long enough that it cannot be over before the test has looked, and ended by the test.
ENDLESS: Any = {"model": MODEL, "messages": MESSAGES, "max_tokens": 1900, "ignore_eos": True}


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


def short_chat(sdk: openai.OpenAI) -> str:
    answer = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8)
    return answer.choices[0].message.content or ""


def free_again(server: Server, cancelled: int) -> None:
    """Waits until the model is idle, one more sequence having been cancelled than before."""
    wait_for(lambda: server.stats()["busy"] == 0 and server.stats()["waiting"] == 0, "the model to be idle")
    assert server.stats()["cancelled"] == cancelled + 1


def test_one_that_reads_slowly_does_not_hold_the_others(server: Server, sdk: openai.OpenAI) -> None:
    with raw_request(server, LARGE, receive_buffer=2048) as slow:
        wait_for(lambda: select.select([slow], [], [], 0)[0], "the slow client's first byte")
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(lambda _: short_chat(sdk), range(8)))
        wait_for(lambda: server.stats()["busy"] == 0, "the slow client's answer to be generated though it is not read")
        assert short_chat(sdk)
        answer = read_all(slow).decode()
    assert len(answer) > LARGE["n"] * len(LARGE["prompt"])
    assert answer.count('"finish_reason":"length"') == LARGE["n"]
    assert "data: [DONE]" in answer


def test_one_that_closes_its_stream(server: Server, sdk: openai.OpenAI) -> None:
    cancelled = server.stats()["cancelled"]
    given = {name: value for name, value in ENDLESS.items() if name != "ignore_eos"}
    with sdk.chat.completions.create(**given, stream=True, extra_body={"ignore_eos": True}) as stream:
        chunks = iter(stream)
        assert [next(chunks) for _ in range(3)]
        assert server.stats()["busy"] == 1
    free_again(server, cancelled)
    assert short_chat(sdk)


def test_one_that_leaves_before_its_whole_answer(server: Server, sdk: openai.OpenAI) -> None:
    cancelled = server.stats()["cancelled"]
    with raw_request(server, ENDLESS):
        wait_for(lambda: server.stats()["busy"] == 1, "the request to be computed")
    free_again(server, cancelled)
    assert short_chat(sdk)


def test_one_that_leaves_while_it_waits_for_a_slot(server: Server, sdk: openai.OpenAI) -> None:
    cancelled = server.stats()["cancelled"]
    with raw_request(server, {**ENDLESS, "n": server.stats()["slots"], "stream": True}) as first:
        wait_for(lambda: server.stats()["busy"] == 8, "all slots to be taken")
        with raw_request(server, ENDLESS):
            wait_for(lambda: server.stats()["waiting"] == 1, "the second request to wait")
        wait_for(lambda: server.stats()["waiting"] == 0, "the second request to be gone")
        assert server.stats()["cancelled"] == cancelled + 1
        assert select.select([first], [], [], 0)[0]
    wait_for(lambda: server.stats()["busy"] == 0, "the model to be idle")
    assert server.stats()["cancelled"] == cancelled + 9
    assert short_chat(sdk)
