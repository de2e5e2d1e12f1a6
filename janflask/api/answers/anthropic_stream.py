"""A streamed message, from its first byte to ``message_stop``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from flask import Response, g

from janflask.api.answers.anthropic_errors import anthropic_error
from janflask.api.answers.anthropic_events import PING, MessageWriter
from janflask.api.answers.chat_log import ANSWERED, ChatListener, error_of
from janflask.api.answers.chunks import data_line
from janflask.api.plumbing.sse import event_stream
from janflask.inference.deltas import Event, Events
from janflask.services.run_changes import Changes
from janflask.storage.records import Run


def message_stream(events: Events, writer: MessageWriter) -> Response:
    """The stream.

    The first event is waited for here, so what is wrong from the start is raised and becomes a true HTTP status. A
    failure after that is an `error` event, the stream's last.
    """
    first, request_id = next(events), g.request_id
    return event_stream(
        _lines(chain([first], events), writer),
        events.close,
        tell_error=lambda error: b"event: error\n" + data_line(anthropic_error(error, request_id)),
    )


def stored_events(run: Run, changes: Changes) -> Events:
    """What is heard of a stored answer, as a backend would say it. Raises what ended one that failed."""
    listener = ChatListener(run)
    yield from listener.events(changes)
    if listener.run.status not in ANSWERED:
        raise error_of(listener.run)


def _lines(events: Iterator[Sequence[Event]], writer: MessageWriter) -> Iterator[bytes]:
    for batch in events:
        if not batch:
            yield PING
        elif piece := writer.batch(batch):
            yield piece
