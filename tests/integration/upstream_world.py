"""What tests of upstreams share: a backend for fake servers, and what it says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from janflask.inference.deltas import Done, Event, Events, Finished, Started, TextDelta
from janflask.inference.requests import ChatMessage, ChatRequest
from janflask.inference.upstream.backend import UpstreamBackend
from janflask.inference.upstream.pool import UpstreamPool
from janflask.inference.waiting import Waiter
from janflask.models.card import ModelCard
from janflask.models.upstream import ServerKind, Upstream
from janflask.settings import Settings
from tests.fakes.openai_server import FakeUpstream

BEAT = 30.0  # seconds; where a test looks at beats it has its own

ASK = (ChatMessage.of("user", "Why is the sky blue?"),)


def card(**parameters: Any) -> ModelCard:
    return ModelCard(
        id="far",
        name="far",
        path=None,
        size_bytes=0,
        created=0,
        settings={},
        parameters=parameters,
        metadata={},
        raw={},
    )


@contextmanager
def backend_for(
    *urls: str | FakeUpstream,
    kind: ServerKind = ServerKind.VLLM,
    parameters: dict[str, Any] | None = None,
    runtime_dir: Path | None = None,
    queue_limit: int = 64,
    **more: Any,
) -> Iterator[UpstreamBackend]:
    base_urls = tuple(url if isinstance(url, str) else url.base_url for url in urls)
    upstream = Upstream(base_urls=base_urls, model="far", kind=kind, **more)
    settings = Settings(runtime_dir=runtime_dir, queue_limit=queue_limit)
    pool = UpstreamPool("far", upstream, settings)
    try:
        yield UpstreamBackend(card(**parameters or {}), upstream, pool, settings)
    finally:
        pool.close()


def chat(backend: UpstreamBackend, waiter: Waiter | None = None, beat: float = BEAT, **more: Any) -> Events:
    return backend.chat(ChatRequest(model="far", messages=ASK, **more), waiter or Waiter(), beat)


def told(events: Iterable[list[Event]]) -> list[Event]:
    return [event for batch in events for event in batch]


def text(events: Iterable[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.index == index)


def started(events: Events) -> list[Event]:
    """Reads on until the upstream has taken the request and said a word."""
    found: list[Event] = []
    while not any(isinstance(event, TextDelta) for event in found):
        found += next(events)
    return found


def is_whole(events: list[Event]) -> bool:
    """One Started, the reason, and one Done at the end."""
    kinds = [type(event) for event in events]
    return kinds[0] is Started and kinds.count(Started) == 1 and kinds[-1] is Done and Finished in kinds
