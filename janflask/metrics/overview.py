"""What is going on in the server at one moment: models, the answers they owe, memory, processes. Ids and numbers only.

Asked for once a second by whoever looks at it; each part has a limit, and what does not answer is left out and named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from janflask.errors import JanflaskError
from janflask.ipc.clients.engine import engines_loads
from janflask.ipc.clients.runner import RunnerClient
from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.models.catalog import ModelCatalog
from janflask.models.engine_info import EngineStats, OpenAnswer
from janflask.models.state import ModelState, ModelStatus, state_of

if TYPE_CHECKING:
    from janflask.metrics.processes import ProcessUse

LIMIT = 0.5  # seconds for each process, and for all engines together
_UNDER_WAY = frozenset({ModelStatus.DOWNLOADING, ModelStatus.STARTING, ModelStatus.RUNNING, ModelStatus.STOPPING})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Silent:
    """A part of the server that did not say how it is."""

    kind: str  # process, model
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes. ``promised`` and ``used`` are the engines'; None where nobody could say."""

    budget: int | None
    promised: int
    used: int
    total: int | None  # of the machine, or of the control group that the server is in
    available: int


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """An answer that is owed, and the run that it belongs to."""

    model_id: str
    answer: OpenAnswer
    thread_id: str | None
    run_id: str | None


@dataclass(frozen=True, slots=True)
class Overview:
    """The server as it is now."""

    started_at: float | None  # seconds since the epoch
    cores: int  # that its processes may run on
    memory: MemoryUse
    processes: Sequence[ProcessUse]
    models: Sequence[ModelState]  # those on disk, and those that something is under way with
    stats: Mapping[str, EngineStats]  # of the models that run
    requests: Sequence[OpenRequest]
    missing: Sequence[Silent]


class Observer:
    """Looks. For any thread."""

    def __init__(self, runtime_dir: Path, catalog: ModelCatalog) -> None:
        self._supervisor = SupervisorClient(runtime_dir)
        self._runner = RunnerClient(runtime_dir)
        self._catalog = catalog

    def look(self) -> Overview:
        """The server now."""
        return _Look(self._supervisor, self._runner, self._catalog).overview()


class _Look:
    """One look: it gathers what does not answer."""

    def __init__(self, supervisor: SupervisorClient, runner: RunnerClient, catalog: ModelCatalog) -> None:
        self._supervisor = supervisor
        self._runner = runner
        self._catalog = catalog
        self._missing: list[Silent] = []

    def overview(self) -> Overview:
        from janflask.metrics.processes import began, uses  # here: few look, and psutil is for nobody else

        told = self._ask("supervisor", lambda: (self._supervisor.told(LIMIT), self._supervisor.budget(LIMIT)))
        states, budget = (None, None) if told is None else told
        open_runs = self._ask("runner", lambda: self._runner.open_runs(LIMIT))
        runner_pid, runs = (None, []) if open_runs is None else (open_runs.pid, open_runs.runs)
        models = self._models([] if states is None else states.states)
        stats, answers = self._loads(models)
        return Overview(
            started_at=began(os.getppid()),
            cores=len(os.sched_getaffinity(0)),
            memory=MemoryUse(
                budget=None if budget is None else budget.budget_bytes,
                promised=sum(state.memory_bytes or 0 for state in models),
                used=sum(state.used_bytes or 0 for state in models),
                total=None if budget is None else budget.total_bytes,
                available=_available(),
            ),
            processes=uses(_pids(None if states is None else states.pid, runner_pid, models)),
            models=models,
            stats=stats,
            requests=_requests(answers, dict(runs)),
            missing=self._missing,
        )

    def _ask(self, process: str, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except JanflaskError as error:
            self._missing.append(Silent("process", process, error.message))
            return None

    def _models(self, states: Sequence[ModelState]) -> list[ModelState]:
        known = {state.model_id: state for state in states}
        found = {state.model_id: state for state in states if state.status in _UNDER_WAY}
        for card in self._catalog.list():
            if card.upstream is None:
                found[card.id] = state_of(card, known.get(card.id))
        return sorted(found.values(), key=lambda state: state.model_id)

    def _loads(self, models: Sequence[ModelState]) -> tuple[dict[str, EngineStats], list[tuple[str, OpenAnswer]]]:
        """Of the engines, by model: what each has to do, and the answers that it owes."""
        stats: dict[str, EngineStats] = {}
        answers: list[tuple[str, OpenAnswer]] = []
        sockets = {state.model_id: state.socket for state in models if state.socket is not None}
        for model_id, load in engines_loads(sockets, LIMIT).items():
            if isinstance(load, JanflaskError):
                self._missing.append(Silent("model", model_id, load.message))
            else:
                stats[model_id] = load.stats
                answers += [(model_id, answer) for answer in load.answers]
        return stats, answers


def _pids(supervisor: int | None, runner: int | None, models: Sequence[ModelState]) -> dict[str, list[int]]:
    """All of the server's processes, by kind; who has made which tells what those are that nobody names."""
    from janflask.metrics.processes import all_children, by_kind

    pids = by_kind(supervisor, runner, ())
    engines = [state.pid for state in models if state.pid is not None]
    makers = [*pids["worker"], *pids.get("runner", ())]
    return pids | {
        "engine": engines,
        "spare": [pid for pid in all_children(supervisor or 0) if pid not in engines],
        "renderer": [pid for maker in makers for pid in all_children(maker)],
    }


def _requests(answers: Sequence[tuple[str, OpenAnswer]], runs: Mapping[str, str]) -> list[OpenRequest]:
    """``runs``: by thread, which has one at most. A conversation that is no thread's is a client's own word."""
    threads = [answer.conversation if answer.conversation in runs else None for _, answer in answers]
    return [
        OpenRequest(model_id, answer, thread, None if thread is None else runs[thread])
        for (model_id, answer), thread in zip(answers, threads, strict=True)
    ]


def _available() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
