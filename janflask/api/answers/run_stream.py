"""A run's events as server-sent events, from the start or from where a client was cut off."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from flask import Response

from janflask.api.answers.run_events import RunEventWriter
from janflask.api.plumbing.sse import KEEP_ALIVE, event_stream
from janflask.ipc.messages.runner import RunChanged
from janflask.services.run_changes import Change, Changes

DONE = b"event: done\ndata: [DONE]\n\n"


def run_stream(changes: Changes, writer: RunEventWriter) -> Response:
    """The events that ``writer`` tells, and ``done`` at the end.

    The first change is waited for here: what is wrong from the start is raised and becomes a true HTTP status. An
    `error` has no number: it is not the run's but this stream's, and a client that comes back goes on where it was.
    """
    first = next(changes)
    return event_stream(_lines(chain([first], changes), writer), changes.close, error_name=b"error")


def _lines(changes: Iterator[Change], writer: RunEventWriter) -> Iterator[bytes]:
    for change in changes:
        if change is None:
            yield KEEP_ALIVE
        elif isinstance(change, RunChanged):
            writer.run(change.run)
        elif lines := writer.events(change.first, change.events):
            yield lines
    yield writer.end() + DONE
