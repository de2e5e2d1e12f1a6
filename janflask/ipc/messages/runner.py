"""What the runner is asked and answers."""

from __future__ import annotations

import msgspec

from janflask.storage.records import Run
from janflask.storage.run_log import LogEvent

RUNNER_SOCKET = "runner.sock"


class BeginRun(msgspec.Struct, frozen=True):
    """Carry out a run that is on disk; answered at once. One that is under way or final stays as it is."""

    thread_id: str
    run_id: str


class CancelRun(msgspec.Struct, frozen=True):
    """End a run, whose reply so far stays; answered at once (``cancelling``). An ErrorReply for one that is final."""

    thread_id: str
    run_id: str


class WatchRun(msgspec.Struct, frozen=True):
    """Tell how a run is now, the events in its log, and what comes, until it is final."""

    thread_id: str
    run_id: str


class RunChanged(msgspec.Struct, frozen=True):
    run: Run


class RunSaid(msgspec.Struct, frozen=True):
    """Events of a run's log, in order; ``first`` is the number of the first one, from 1."""

    first: int
    events: list[LogEvent]
