"""What a run has said, as far as it has come, out of its log or else out of its message."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from janflask.errors import NotFoundError, StoreDamagedError
from janflask.services.replies import reply_message
from janflask.storage.base import Repository
from janflask.storage.items import REASONING
from janflask.storage.records import Message, Run
from janflask.storage.run_log import LogEvent, missing, reasoning_of, retold, texts_of

log = logging.getLogger(__name__)


def told_events(repository: Repository, run: Run) -> list[LogEvent]:
    """The events of a run that was read just now.

    The log of a final one may be gone, as the thread's next run removes it: its messages are told in one piece then.
    """
    try:
        events = list(repository.runs.events(run.thread_id, run.id))
    except StoreDamagedError as error:
        log.warning("run %s is told by its message: %s", run.id, error.message)
        events = []
    if not events and run.status.is_final:
        message = _stored(repository, run)
        thought = "" if message is None else message.extra.get(REASONING)
        events = retold(run, "" if message is None else message.text, thought if isinstance(thought, str) else "")
    return [*events, *missing(run, events)]


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
