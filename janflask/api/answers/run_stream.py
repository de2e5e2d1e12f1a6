"""A run's events as server-sent events, from the start or from where a client was cut off."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import chain

from flask import Response

from janflask.api.answers.chunks import encode_json
from janflask.api.answers.run_events import RunEvent, delta, ending, opening
from janflask.api.plumbing.sse import KEEP_ALIVE, event_stream
from janflask.services.runs import RunChanged, RunSaid
from janflask.storage.records import Run

DONE = b"event: done\ndata: [DONE]\n\n"
Change = RunChanged | RunSaid | None


def run_stream(changes: Generator[Change, None, None], after: int = 0) -> Response:
    """The events behind number ``after``, and ``done`` at the end.

    The first change is waited for here: what is wrong from the start is raised and becomes a true HTTP status. An
    `error` has no number: it is not the run's but this stream's, and a client that comes back goes on where it was.
    """
    first = next(changes)
    return event_stream(_lines(chain([first], changes), after), changes.close, error_name=b"error")


def _lines(changes: Iterator[Change], after: int) -> Iterator[bytes]:
    teller = _Teller(after)
    for change in changes:
        if change is None:
            yield KEEP_ALIVE
        elif lines := b"".join(map(_line, teller.hear(change))):
            yield lines
    yield b"".join(map(_line, teller.end())) + DONE


def _line(event: RunEvent) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.number, event.name.encode(), encode_json(event.data))


class _Teller:
    """Makes each event once, whatever is heard how often."""

    def __init__(self, after: int) -> None:
        self._told = after
        self._run: Run | None = None
        self._pieces: list[str] = []

    def hear(self, change: RunChanged | RunSaid) -> Iterator[RunEvent]:
        """What is new in it."""
        if isinstance(change, RunChanged):
            self._run = change.run
            yield from self._new(opening(change.run))
        elif self._run is not None:
            for index, text in enumerate(change.pieces, change.first):
                if index == len(self._pieces):
                    self._pieces.append(text)
                    yield from self._new([delta(self._run, index, text)])

    def end(self) -> Iterator[RunEvent]:
        """What ends the run, all of whose pieces were heard."""
        if self._run is not None:
            yield from self._new(ending(self._run, self._pieces))

    def _new(self, events: Iterable[RunEvent]) -> Iterator[RunEvent]:
        for event in events:
            if event.number > self._told:
                self._told = event.number
                yield event
