"""Asking the runner."""

from __future__ import annotations

from janflask.ipc.channel import ProcessClient, Waitable, expected_reply
from janflask.ipc.messages.runner import (
    BeginRun,
    CancelRun,
    GetOpenRuns,
    GetRunnerStats,
    OpenRuns,
    RunChanged,
    RunnerStats,
    RunSaid,
    WatchRun,
)
from janflask.ipc.request_id import CURRENT
from janflask.ipc.sockets import RUNNER_SOCKET
from janflask.storage.records import Run


class RunWatch(Waitable):
    """A run that is watched; ``fileno()`` becomes readable when there is something new."""

    def receive(self) -> list[RunChanged | RunSaid] | None:
        """All that came, in order; empty while a message is not whole, None once nothing more will come.

        A run that is not final by then goes on without its runner; ask again. Raises what the runner answers.
        """
        has_ended = False
        try:
            while self._connection.receive():
                pass
        except EOFError:
            has_ended = True
        news: list[RunChanged | RunSaid] = []
        while (message := self._connection.next()) is not None:
            news.append(message if isinstance(message, RunSaid) else expected_reply(message, RunChanged))
        return None if has_ended and not news else news


class RunnerClient(ProcessClient):
    """Asks the runner whose socket is in ``runtime_dir``."""

    _SOCKET = RUNNER_SOCKET
    _PEER = "the runner"

    def begin(self, thread_id: str, run_id: str, timeout: float) -> Run:
        """The run, which is carried out from now on. Raises what the runner answers, UnavailableError."""
        return self._ask(BeginRun(thread_id, run_id, CURRENT.get()), RunChanged, timeout).run

    def cancel(self, thread_id: str, run_id: str, timeout: float) -> Run:
        """The run, which is about to end. Raises what the runner answers, UnavailableError."""
        return self._ask(CancelRun(thread_id, run_id), RunChanged, timeout).run

    def stats(self, timeout: float) -> RunnerStats:
        """How many runs there are. Raises UnavailableError."""
        return self._ask(GetRunnerStats(), RunnerStats, timeout)

    def open_runs(self, timeout: float) -> OpenRuns:
        """Which runs are carried out now, or wait for that. Raises UnavailableError."""
        return self._ask(GetOpenRuns(), OpenRuns, timeout)

    def watch(self, thread_id: str, run_id: str) -> RunWatch:
        """How the run is, all that it has said, and what comes, until it is final."""
        return RunWatch(self._connect(WatchRun(thread_id, run_id)))
