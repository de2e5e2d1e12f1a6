"""Server-sent events of one model: how it is, and how far its download is, until nothing is under way with it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import chain

from flask import Response

from janflask.api.answers.chunks import data_line
from janflask.api.answers.model_objects import model_event
from janflask.api.plumbing.sse import KEEP_ALIVE, event_stream
from janflask.services.model import Model


def model_events(changes: Generator[Model | None, None, None]) -> Response:
    """A ``data:`` line for each change, a comment line for each silence.

    The first change is waited for here: what is wrong from the start is raised and becomes a true HTTP status.
    """
    first = next(changes)
    return event_stream(_lines(chain([first], changes)), changes.close)


def _lines(changes: Iterator[Model | None]) -> Iterator[bytes]:
    for model in changes:
        yield KEEP_ALIVE if model is None else data_line(model_event(model))
