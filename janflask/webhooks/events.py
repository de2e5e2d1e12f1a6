"""What is told: the types of events, and how one reads to whoever receives it.

The names are OpenAI's wherever it has one, for webhooks or in the streams of its assistants API. An event is thin: it
tells which object it is about, and whoever wants more asks for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

EVENT = "evt_"
THREADS = ("thread.created", "thread.updated", "thread.deleted")
MESSAGES = ("thread.message.created", "thread.message.updated", "thread.message.deleted")
RUN, RESPONSE = "thread.run.", "response."
RUNS = tuple(
    RUN + status for status in ("requires_action", "completed", "incomplete", "failed", "cancelled", "expired")
)
RESPONSES = tuple(RESPONSE + status for status in ("completed", "incomplete", "failed", "cancelled"))
MODELS = ("model.created", "model.updated", "model.deleted", "model.running", "model.stopped", "model.failed")
TYPES = (*THREADS, *MESSAGES, *RUNS, *RESPONSES, *MODELS)
TEST = "webhook.test"  # sent on request only
EVERY = "*"


@dataclass(frozen=True, slots=True)
class Event:
    """``about`` is the object whose events are told in order: a thread with all that is in it, or a model.

    ``data`` is what is told of it.
    """

    type: str
    about: str
    data: Mapping[str, str]


def of_thread(what: str, thread_id: str) -> Event:
    """``what``: ``created``, ``updated`` or ``deleted``."""
    return Event(f"thread.{what}", f"thread {thread_id}", {"id": thread_id})


def of_message(what: str, thread_id: str, message_id: str) -> Event:
    """The same of a message."""
    data = {"id": message_id, "thread_id": thread_id}
    return Event(f"thread.message.{what}", f"thread {thread_id}", data)


def of_run(status: str, thread_id: str, run_id: str) -> Event:
    """A run of the assistants API has come to be in ``status``."""
    return Event(RUN + status, f"thread {thread_id}", {"id": run_id, "thread_id": thread_id})


def of_response(status: str, thread_id: str, response_id: str) -> Event:
    """A stored response has ended so."""
    return Event(RESPONSE + status, f"thread {thread_id}", {"id": response_id})


def of_model(what: str, model_id: str) -> Event:
    """``what`` as in ``MODELS``."""
    return Event(f"model.{what}", f"model {model_id}", {"id": model_id})


def is_pattern(text: str) -> bool:
    """Whether ``text`` names types: one of them, all (``*``), or all that begin so (``thread.*``)."""
    return text == EVERY or any(matches(text, type) for type in TYPES)


def matches(pattern: str, type: str) -> bool:
    """Whether an endpoint that asked for ``pattern`` is told events of that type."""
    return pattern in (EVERY, type) or (pattern.endswith(".*") and type.startswith(pattern[:-1]))


def unknown(patterns: Sequence[str]) -> list[str]:
    """Those of the patterns that name no type."""
    return [pattern for pattern in patterns if not is_pattern(pattern)]


def body(event_id: str, type: str, data: Mapping[str, str], made_ms: int) -> bytes:
    """What is posted: the same bytes at each try."""
    told = {"id": event_id, "object": "event", "created_at": made_ms // 1000, "type": type, "data": data}
    return msgspec.json.encode(told)
