"""Listening to runs as any client of server-sent events would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from tests.e2e.server import LIMIT, Server

DELTA = "thread.message.delta"


def events(response: httpx.Response) -> Iterator[tuple[int, str, Any]]:
    """(number, name, data) of each event."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name in ("id", "event", "data"):
            fields[name] = value
        elif not line and fields:
            data = fields.get("data", "")
            yield int(fields.get("id", -1)), fields.get("event", ""), data if data == "[DONE]" else json.loads(data)
            fields = {}


def watched(server: Server, thread_id: str, run_id: str, after: int | None = None) -> list[tuple[int, str, Any]]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    path = f"{server.url}/v1/threads/{thread_id}/runs/{run_id}/events"
    with httpx.stream("GET", path, headers=headers, timeout=LIMIT) as response:
        assert response.status_code == 200
        return list(events(response))


def text_of(told: list[tuple[int, str, Any]]) -> str:
    """What the deltas say together."""
    return "".join(data["delta"]["content"][0]["text"]["value"] for _, name, data in told if name == DELTA)
