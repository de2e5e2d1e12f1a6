"""What the runner is asked and answers."""

from __future__ import annotations

from janflask.ipc.frames import Message
from janflask.storage.records import Run
from janflask.storage.run_log import LogEvent


class BeginRun(Message, frozen=True):
    """Carry out a run that is on disk; answered at once. One that is under way or final stays as it is."""

    thread_id: str
    run_id: str
    request_id: str | None = None  # of who asks for it, for the logs


class CancelRun(Message, frozen=True):
    """End a run, whose reply so far stays; answered at once (``cancelling``). An ErrorReply for one that is final."""

    thread_id: str
    run_id: str


class WatchRun(Message, frozen=True):
    """Tell how a run is now, the events in its log, and what comes, until it is final."""

    thread_id: str
    run_id: str


class RunChanged(Message, frozen=True):
    run: Run


class RunSaid(Message, frozen=True):
    """Events of a run's log, in order; ``first`` is the number of the first one, from 1."""

    first: int
    events: list[LogEvent]


class GetRunnerStats(Message, frozen=True):
    pass


class RunnerStats(Message, frozen=True):
    """How many runs are being carried out, wait for a thread, wait for outputs of calls; and how those here ended."""

    under_way: int
    queued: int
    parked: int
    ended: dict[str, int]  # by status, since this process began
    pid: int = 0  # the runner's own


class GetOpenRuns(Message, frozen=True):
    pass


class OpenRuns(Message, frozen=True):
    """The runs that are carried out now, or wait for that: the ids of each one's thread and of itself."""

    runs: list[tuple[str, str]]
    pid: int  # the runner's own
