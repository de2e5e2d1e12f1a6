"""What a run has said, as far as it has come, out of its log or else out of its message."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from janflask.errors import NotFoundError, StoreDamagedError
from janflask.services.replies import refusal_of, reply_message
from janflask.storage.base import Repository
from janflask.storage.items import REASONING, ItemKind, readable_items
from janflask.storage.records import Message, Run, RunKind, words_of
from janflask.storage.run_log import LogEvent, missing, reasoning_of, retold, texts_of

log = logging.getLogger(__name__)


def told_events(repository: Repository, run: Run) -> list[LogEvent]:
    """The events of a run that was read just now: see ``told``."""
    return told(repository, run)[1]


def told(repository: Repository, run: Run) -> tuple[Run, list[LogEvent]]:
    """A run that was read just now, and its events.

    The log of a final one may be gone, as the thread's next run removes it: its messages are told in one piece then.
    So is an answer by itself that somebody changed or deleted since, of which the run then has no calls that are gone.
    """
    try:
        events = list(repository.runs.events(run.thread_id, run.id))
    except StoreDamagedError as error:
        log.warning("run %s is told by its message: %s", run.id, error.message)
        events = []
    if run.status.is_final:
        message = _stored(repository, run)
        now = run if run.kind is RunKind.RUN else replace(run, **_ends_with(message))
        said = _said(message)
        logged = "".join(texts_of(events)), reasoning_of(events)
        if not events or (now.kind is not RunKind.RUN and (now != run or said != logged)):
            run, events = now, retold(now, *said)
    return run, [*events, *missing(run, events)]


def _said(message: Message | None) -> tuple[str, str]:
    """Its words and what was thought before them."""
    if message is None:
        return "", ""
    thought = message.extra.get(REASONING)
    words = words_of([part for part in message.content if part.get("type") != "refusal"])
    return words, thought if isinstance(thought, str) else ""


def _ends_with(message: Message | None) -> dict[str, Any]:
    """Of an answer by itself: what its message has of it still. Calls that nobody can read are none."""
    if message is None:
        return {"wanted": (), "refusal": ""}
    calls = (item.call for item in readable_items(message) if item.kind is ItemKind.CALL)
    return {"wanted": tuple(call for call in calls if call is not None), "refusal": refusal_of(message)}


def told_reply(repository: Repository, run: Run) -> list[Message]:
    """The message of an answer by itself, if it has come so far, and was not deleted since; before it the summary that
    was made of what is older."""
    summary = _stored(repository, run, run.compaction["message_id"]) if run.compaction else None
    before = [] if summary is None else [summary]
    if run.status.is_final:
        message = _stored(repository, run)
        return before if message is None else [*before, message]
    events: Sequence[LogEvent] = repository.runs.events(run.thread_id, run.id)
    text, reasoning = "".join(texts_of(events)), reasoning_of(events)
    is_begun = run.replied_ms is not None or bool(reasoning)
    return [*before, reply_message(run, text, reasoning)] if is_begun else before


def _stored(repository: Repository, run: Run, message_id: str = "") -> Message | None:
    try:
        return repository.threads.get_message(run.thread_id, message_id or run.message_id)
    except (NotFoundError, StoreDamagedError):
        return None
