"""A run's events, as the SDK's stream helpers want them: the same ones, in the same order, whoever asks and whenever.

Every event is a line of the run's log (``storage.run_log``), and its number is that line's, so that a client that comes
back (``Last-Event-ID``) goes on exactly where it was, also after a crash::

    1 run.created   2 run.queued   3 run.in_progress            a run that never comes so far ends with 3 or 4
    4 step.created  5 step.in_progress  6 message.created  7 message.in_progress
    8... message.delta, one for each piece of text
    then what ends the message, the step and the run

A run that calls functions has rounds. Each but the last one ends with a step of calls and ``run.requires_action``; the
next one begins with ``step.completed`` of that step, ``run.queued`` and ``run.in_progress``, and has its own message.

Lines that the assistants API has no event for (reasoning, what a later version wrote) are not told; their numbers are
passed over.
"""

from __future__ import annotations

from collections.abc import Sequence

from janflask.api.answers.chunks import encode_json
from janflask.api.answers.run_event_data import delta_data, lifecycle_data, message_id_of
from janflask.storage.records import Run
from janflask.storage.run_log import LifecycleEvent, LogEvent, TextEvent, ToolCallEvent, is_wait, missing, unheard


class RunEventWriter:
    """Bytes for the events behind number ``after`` and of the rounds from ``first_round`` on, each once."""

    def __init__(self, after: int, first_round: int = 0) -> None:
        self._after = after
        self._first_round = first_round
        self._heard = 0
        self._run: Run | None = None
        self._round = 0  # that the next event is of
        self._texts: list[str] = []  # of this round
        self._due: list[LifecycleEvent | ToolCallEvent] = []
        self._delta_start = b""

    def run(self, run: Run) -> None:
        """The run as it is now; its events come behind it."""
        self._run = run
        self._delta_start = self._start(run)

    def events(self, first: int, events: Sequence[LogEvent]) -> bytes:
        """What is new in the part of the run's log that begins with number ``first``."""
        lines: list[bytes] = []
        for number, event in enumerate(unheard(self._heard, first, events), self._heard + 1):
            self._heard = number
            is_told = number > self._after and self._round >= self._first_round
            if isinstance(event, TextEvent):
                self._texts.append(event.text)
                if is_told:
                    lines.append(self._delta(number, event.text))
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
        self._texts = []
        if self._run is not None:
            self._delta_start = self._start(self._run)

    def _start(self, run: Run) -> bytes:
        message_id = message_id_of(run, self._round)
        content = b'"delta":{"content":[{"index":0,"type":"text","text":{"value":'
        head = encode_json({"id": message_id, "object": "thread.message.delta"}).removesuffix(b"}")
        return b"\nevent: thread.message.delta\ndata: " + head + b"," + content

    def _delta(self, number: int, text: str) -> bytes:
        # The API's hot path, once a token and client: only the number and the text are not known before.
        return b"id: %d%s%s%s" % (number, self._delta_start, encode_json(text), b',"annotations":[]}}]}}\n\n')

    def _line(self, number: int, event: LifecycleEvent | ToolCallEvent) -> bytes:
        if self._run is None:
            return b""
        if isinstance(event, ToolCallEvent):
            name, data = "run.step.delta", delta_data(self._run, event)
        else:
            name, data = event.event, lifecycle_data(self._run, event, self._texts)
        if data is None:
            return b""
        return b"id: %d\nevent: thread.%s\ndata: %s\n\n" % (number, name.encode(), encode_json(data))
