"""The runner, as far as it has to do with threads that are to be seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from janflask.ipc.clients.runner import RunnerClient, RunWatch
from janflask.storage.records import Run


class OwnRunner(RunnerClient):
    """The runner carries out everybody's runs, and asks nobody whose they are.

    ``check`` raises NotFoundError for a thread that is not to be seen, before the runner is asked about it.
    """

    def __init__(self, runtime_dir: Path, patience: float, check: Callable[[str], None]) -> None:
        super().__init__(runtime_dir, patience)
        self._check = check

    def begin(self, thread_id: str, run_id: str, timeout: float) -> Run:
        """See ``RunnerClient``."""
        self._check(thread_id)
        return super().begin(thread_id, run_id, timeout)

    def cancel(self, thread_id: str, run_id: str, timeout: float) -> Run:
        """See ``RunnerClient``."""
        self._check(thread_id)
        return super().cancel(thread_id, run_id, timeout)

    def watch(self, thread_id: str, run_id: str) -> RunWatch:
        """See ``RunnerClient``."""
        self._check(thread_id)
        return super().watch(thread_id, run_id)
