"""A run's events, as the SDK's stream helpers want them: the same ones, in the same order, whoever asks and whenever.

Every event is a line of the run's log (``storage.run_log``), and its number is that line's, so that a client that comes
back (``Last-Event-ID``) goes on exactly where it was, also after a crash::

    1 run.created   2 run.queued   3 run.in_progress            a run that never comes so far ends with 3 or 4
    4 step.created  5 step.in_progress  6 message.created  7 message.in_progress
    8... message.delta, one for each piece of text, and message.reasoning.delta for each thought, for who wants them
    then what ends the message, the step and the run

A run that calls functions has rounds. Each but the last one ends with a step of calls and ``run.requires_action``; the
next one begins with ``step.completed`` of that step, ``run.queued`` and ``run.in_progress``, and has its own message.

Lines that the assistants API has no event for are not told unasked (thoughts), or not at all (what a later version
wrote); their numbers are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from janflask.api.answers.chunks import encode_json
from janflask.api.answers.run_event_data import delta_data, lifecycle_data, message_id_of
from janflask.storage.records import Run
from janflask.storage.run_log import (
    LifecycleEvent,
    LogEvent,
    ReasoningEvent,
    TextEvent,
    ToolCallEvent,
    is_wait,
    missing,
    unheard,
)


class RunEventWriter:
    """Bytes for the events behind number ``after`` and of the rounds from ``first_round`` on, each once.

    With ``thoughts`` those are told, too. With ``joins`` pieces that come together are one event, by the last number.
    """

    def __init__(self, after: int, first_round: int = 0, *, thoughts: bool = False, joins: bool = False) -> None:
        self._after = after
        self._first_round = first_round
        self._tells_thoughts = thoughts
        self._joins = joins
        self._heard = 0
        self._run: Run | None = None
        self._round = 0  # that the next event is of
        self._texts: list[str] = []  # of this round
        self._thoughts: list[str] = []
        self._due: list[LifecycleEvent | ToolCallEvent] = []
        self._delta_start = self._thought_start = b""

    def run(self, run: Run) -> None:
        """The run as it is now; its events come behind it."""
        self._run = run
        self._begin_round(run)

    def events(self, first: int, events: Sequence[LogEvent]) -> bytes:
        """What is new in the part of the run's log that begins with number ``first``."""
        lines: list[bytes] = []
        numbered: Iterable[tuple[int, LogEvent]] = enumerate(unheard(self._heard, first, events), self._heard + 1)
        for number, event in _joined(numbered, self._after) if self._joins else numbered:
            self._heard = number
            is_told = number > self._after and self._round >= self._first_round
            if isinstance(event, TextEvent):
                self._texts.append(event.text)
                if is_told:
                    lines.append(self._delta(number, event.text))
            elif isinstance(event, ReasoningEvent):
                self._thoughts.append(event.text)
                if is_told and self._tells_thoughts:
                    lines.append(self._thought(number, event.text))
            elif isinstance(event, LifecycleEvent | ToolCallEvent):
                self._due.append(event)
                if is_told:
                    lines.append(self._line(number, event))
                if is_wait(event):
                    self._next_round()
        return b"".join(lines)

    def end(self) -> bytes:
        """What ends the run, as far as it was not heard."""
        return b"" if self._run is None else self.events(self._heard + 1, missing(self._run, self._due))

    def _next_round(self) -> None:
        self._round += 1
        self._texts, self._thoughts = [], []
        if self._run is not None:
            self._begin_round(self._run)

    def _begin_round(self, run: Run) -> None:
        message_id = message_id_of(run, self._round)
        content = b'"content":[{"index":0,"type":"text","text":{"value":'
        self._delta_start = _start(message_id, "thread.message.delta", content)
        self._thought_start = _start(message_id, "thread.message.reasoning.delta", b'"reasoning":')

    def _delta(self, number: int, text: str) -> bytes:
        # The API's hot path, once a token and client: only the number and the text are not known before.
        return b"id: %d%s%s%s" % (number, self._delta_start, encode_json(text), b',"annotations":[]}}]}}\n\n')

    def _thought(self, number: int, text: str) -> bytes:
        return b"id: %d%s%s}}\n\n" % (number, self._thought_start, encode_json(text))

    def _line(self, number: int, event: LifecycleEvent | ToolCallEvent) -> bytes:
        if self._run is None:
            return b""
        if isinstance(event, ToolCallEvent):
            name, data = "run.step.delta", delta_data(self._run, event)
        else:
            name, data = event.event, lifecycle_data(self._run, event, self._texts, self._thoughts)
        if data is None:
            return b""
        return b"id: %d\nevent: thread.%s\ndata: %s\n\n" % (number, name.encode(), encode_json(data))


def _start(message_id: str, name: str, delta: bytes) -> bytes:
    """An event with a piece of a message, from behind its number to where the piece stands."""
    head = encode_json({"id": message_id, "object": name}).removesuffix(b"}")
    return b'\nevent: %s\ndata: %s,"delta":{%s' % (name.encode(), head, delta)


def _joined(numbered: Iterable[tuple[int, LogEvent]], after: int) -> Iterator[tuple[int, LogEvent]]:
    """Neighbouring pieces of text as one, and of thoughts, with the number of the last; not across ``after``."""
    for (kind, _), group in groupby(numbered, lambda item: (type(item[1]), item[0] > after)):
        if kind is TextEvent or kind is ReasoningEvent:
            pieces = [(number, event.text) for number, event in group if isinstance(event, TextEvent | ReasoningEvent)]
            yield pieces[-1][0], kind("".join(text for _, text in pieces))
        else:
            yield from group
