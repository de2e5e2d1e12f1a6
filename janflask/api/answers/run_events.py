"""A run's events, as the SDK's stream helpers want them: the same ones, in the same order, whoever asks and whenever.

Every event is a line of the run's log (``storage.run_log``), and its number is that line's, so that a client that comes
back (``Last-Event-ID``) goes on exactly where it was, also after a crash::

    1 run.created   2 run.queued   3 run.in_progress            a run that never comes so far ends with 3 or 4
    4 step.created  5 step.in_progress  6 message.created  7 message.in_progress
    8... message.delta, one for each piece of text
    then what ends the message, the step and the run

Lines that the assistants API has no event for (reasoning, calls of tools that runs don't have yet, what a later version
wrote) are not told; their numbers are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from janflask.api.answers.chunks import encode_json
from janflask.api.answers.run_objects import run_object, step_object
from janflask.api.answers.thread_objects import message_object
from janflask.services.replies import reply_message
from janflask.storage.records import Run, RunStatus
from janflask.storage.run_log import LifecycleEvent, LogEvent, TextEvent, missing

Data = dict[str, Any]


class RunEventWriter:
    """Bytes for the events behind number ``after``, each once, whatever is heard how often."""

    def __init__(self, after: int) -> None:
        self._after = after
        self._heard = 0
        self._run: Run | None = None
        self._texts: list[str] = []
        self._lifecycle: list[LifecycleEvent] = []
        self._delta_start = b""

    def run(self, run: Run) -> None:
        """The run as it is now; its events come behind it."""
        self._run = run
        content = b'"delta":{"content":[{"index":0,"type":"text","text":{"value":'
        self._delta_start = (
            b"\nevent: thread.message.delta\ndata: "
            + encode_json({"id": run.message_id, "object": "thread.message.delta"}).removesuffix(b"}")
            + b","
            + content
        )

    def events(self, first: int, events: list[LogEvent]) -> bytes:
        """What is new in the part of the run's log that begins with number ``first``."""
        lines: list[bytes] = []
        for number, event in enumerate(events, first):
            if number != self._heard + 1:
                continue
            self._heard = number
            if isinstance(event, TextEvent):
                self._texts.append(event.text)
                if number > self._after:
                    lines.append(self._delta(number, event.text))
            elif isinstance(event, LifecycleEvent):
                self._lifecycle.append(event)
                if number > self._after:
                    lines.append(self._lifecycle_line(number, event.event))
        return b"".join(lines)

    def end(self) -> bytes:
        """What ends the run, as far as it was not heard."""
        return b"" if self._run is None else self.events(self._heard + 1, missing(self._run, self._lifecycle))

    def _delta(self, number: int, text: str) -> bytes:
        # The API's hot path, once a token and client: only the number and the text are not known before.
        return b"id: %d%s%s%s" % (number, self._delta_start, encode_json(text), b',"annotations":[]}}]}}\n\n')

    def _lifecycle_line(self, number: int, name: str) -> bytes:
        if self._run is None or (data := lifecycle_data(self._run, name, self._texts)) is None:
            return b""
        return b"id: %d\nevent: thread.%s\ndata: %s\n\n" % (number, name.encode(), encode_json(data))


def lifecycle_data(run: Run, name: str, texts: list[str]) -> Data | None:
    """The data of an event of ``run``, which has come at least so far and said ``texts``; None if it is not known."""
    make = _DATA.get(name)
    return None if make is None else make(run, texts)


def _at_first(run: Run) -> Run:
    """The run as it was when it was made."""
    return replace(
        run,
        status=RunStatus.QUEUED,
        started_ms=None,
        replied_ms=None,
        cancelled_ms=None,
        failed_ms=None,
        completed_ms=None,
        error_code=None,
        error_message=None,
        incomplete_reason=None,
        left_out=(),
        prompt_tokens=None,
        cached_tokens=None,
        completion_tokens=None,
    )


def _begun(run: Run) -> Run:
    """What it was not shown is known only when it replies."""
    return replace(_at_first(run), status=RunStatus.IN_PROGRESS, started_ms=run.started_ms)


def _replying(run: Run) -> Run:
    return replace(_begun(run), replied_ms=run.replied_ms)


def _cancelling(run: Run) -> Run:
    return replace(_at_first(run), status=RunStatus.CANCELLING, started_ms=run.started_ms)


def _empty_message(run: Run, texts: list[str]) -> Data:
    return {**message_object(reply_message(_replying(run), "")), "content": []}


def _message(run: Run, texts: list[str]) -> Data:
    return message_object(reply_message(run, "".join(texts)))


_DATA: Mapping[str, Callable[[Run, list[str]], Data]] = {
    **dict.fromkeys(("run.created", "run.queued"), lambda run, texts: run_object(_at_first(run))),
    "run.in_progress": lambda run, texts: run_object(_begun(run)),
    "run.cancelling": lambda run, texts: run_object(_cancelling(run)),
    **{f"run.{status}": lambda run, texts: run_object(run) for status in RunStatus if status.is_final},
    **dict.fromkeys(("run.step.created", "run.step.in_progress"), lambda run, texts: step_object(_replying(run))),
    **dict.fromkeys(
        ("run.step.completed", "run.step.failed", "run.step.cancelled", "run.step.expired"),
        lambda run, texts: step_object(run),
    ),
    **dict.fromkeys(("message.created", "message.in_progress"), _empty_message),
    **dict.fromkeys(("message.completed", "message.incomplete"), _message),
}
