"""Whether the server can take requests: what of it should be up and is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from janflask.errors import JanflaskError
from janflask.ipc.clients.runner import RunnerClient
from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.ipc.shutdown import DRAINING_NAME

TIMEOUT = 1.0  # seconds for each of the two; probes themselves often give up after one or two


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that has to be up."""

    kind: str  # process, model
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Ready: nothing is missing, and the server is not on its way out."""

    draining: bool
    missing: tuple[Missing, ...]

    @property
    def is_ready(self) -> bool:
        return not self.draining and not self.missing


class HealthService:
    """Asks without patience: what has just died is missing, though it will be back in a second."""

    def __init__(self, runtime_dir: Path) -> None:
        self._mark = runtime_dir / DRAINING_NAME
        self._supervisor = SupervisorClient(runtime_dir)
        self._runner = RunnerClient(runtime_dir)

    def readiness(self) -> Readiness:
        """How it is right now."""
        missing = [*self._models(), *self._process("runner", lambda: self._runner.stats(TIMEOUT))]
        return Readiness(self._mark.exists(), tuple(missing))

    def _models(self) -> list[Missing]:
        try:
            awaited = self._supervisor.awaited(TIMEOUT)
        except JanflaskError as error:
            return [Missing("process", "supervisor", error.message)]
        reasons = ((each.model_id, f"{each.status}: {each.reason}" if each.reason else each.status) for each in awaited)
        return [Missing("model", model_id, reason) for model_id, reason in reasons]

    @staticmethod
    def _process(name: str, ask: Callable[[], object]) -> list[Missing]:
        try:
            ask()
        except JanflaskError as error:
            return [Missing("process", name, error.message)]
        return []
