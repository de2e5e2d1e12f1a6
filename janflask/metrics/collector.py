"""All that Prometheus is told, asked for at each scrape: of the files, the supervisor, the runner, and every engine.

Each has a limit. What does not answer is left out, and counted (``scrape_failures``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from prometheus_client.metrics_core import Metric

from janflask.errors import JanflaskError
from janflask.ipc.clients.engine import engines_metrics
from janflask.ipc.clients.runner import RunnerClient
from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.ipc.messages.engine import Metrics
from janflask.ipc.messages.runner import RunnerStats
from janflask.metrics.engine_families import engine_families
from janflask.metrics.families import counter, gauge, histogram
from janflask.metrics.http_counts import BOUNDS, HttpCounts, Requests, requests
from janflask.metrics.process_families import process_families
from janflask.metrics.processes import by_kind
from janflask.metrics.webhooks import WebhookCounts, webhook_families
from janflask.models.catalog import ModelCatalog
from janflask.models.state import ModelState, ModelStatus, state_of

LIMIT = 1.0  # seconds for the supervisor, the runner, and all engines together

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Told:
    """What the parts of the server said; nothing of one that did not answer."""

    states: Mapping[str, ModelState]
    supervisor_pid: int | None
    runner: RunnerStats | None
    engines: Mapping[str, Metrics]
    requests: Requests


class Collector:
    """``collect`` is for any thread."""

    def __init__(
        self, runtime_dir: Path, catalog: ModelCatalog, counts: HttpCounts, webhooks: WebhookCounts, version: str
    ) -> None:
        self._supervisor = SupervisorClient(runtime_dir)
        self._runner = RunnerClient(runtime_dir)
        self._catalog = catalog
        self._counts = counts
        self._webhooks = webhooks
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Every family, also those that nobody has a number for now."""
        told = self._ask()
        yield gauge("build_info", "Always 1; the label tells the version.", ["version"], [([self._version], 1.0)])
        yield from _model_families(told.states)
        yield from engine_families(told.engines)
        yield from _run_families(told.runner)
        yield from _request_families(told.requests)
        yield from webhook_families(self._or_none("webhooks", self._webhooks.read) or {})
        runner = None if told.runner is None else told.runner.pid
        pids = by_kind(told.supervisor_pid, runner, told.requests.pids)
        yield from process_families(pids, told.states)

    def _ask(self) -> Told:
        states = self._or_none("supervisor", lambda: self._supervisor.told(LIMIT))
        runner = self._or_none("runner", lambda: self._runner.stats(LIMIT))
        known = {} if states is None else {state.model_id: state for state in states.states}
        engines = self._engines(known)
        folder = self._counts.folder
        counted = None if folder is None else self._or_none("counts", lambda: requests(folder))
        return Told(
            {} if states is None else self._with_cards(known),
            None if states is None else states.pid,
            runner,
            engines,
            counted or Requests(),
        )

    def _or_none(self, part: str, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except (JanflaskError, OSError):
            self._counts.failed(part)
            return None

    def _engines(self, states: Mapping[str, ModelState]) -> dict[str, Metrics]:
        sockets = {name: state.socket for name, state in states.items() if state.socket is not None}
        told: dict[str, Metrics] = {}
        for name, answer in engines_metrics(sockets, LIMIT).items():
            if isinstance(answer, Metrics):
                told[name] = answer
            else:
                self._counts.failed("engine")
        return told

    def _with_cards(self, states: Mapping[str, ModelState]) -> Mapping[str, ModelState]:
        """With the models on disk, also those that nobody has asked for yet."""
        known = dict(states)
        for card in self._catalog.list():
            if card.upstream is None:
                known[card.id] = state_of(card, known.get(card.id))
        return known


def _model_families(states: Mapping[str, ModelState]) -> Iterator[Metric]:
    model = ["model_name"]
    is_in = (
        ([state.model_id, status.value], float(state.status is status))
        for state in states.values()
        for status in ModelStatus
    )
    yield gauge("model_state", "1 for the state that a model is in.", ["model_name", "state"], is_in)
    promised = (([s.model_id], float(s.memory_bytes)) for s in states.values() if s.memory_bytes is not None)
    yield gauge("model_memory_promised_bytes", "Of the memory budget, what a model was granted.", model, promised)
    used = (([s.model_id], float(s.used_bytes)) for s in states.values() if s.used_bytes is not None)
    yield gauge("model_memory_used_bytes", "RAM that its engine has now.", model, used)
    restarts = (([s.model_id], float(s.restarts)) for s in states.values())
    help = "Restarts after crashes and hangs, since the model was last started on request."
    yield counter("model_restarts", help, model, restarts)


def _run_families(runner: RunnerStats | None) -> Iterator[Metric]:
    here = [] if runner is None else [runner]
    yield gauge("runs_running", "Runs that are being carried out.", [], [([], float(r.under_way)) for r in here])
    yield gauge("runs_waiting", "Runs that wait for a thread.", [], [([], float(r.queued)) for r in here])
    help = "Runs that wait for the outputs of calls, as far as this runner knows of them."
    yield gauge("runs_requiring_action", help, [], [([], float(r.parked)) for r in here])
    ended = [([status], float(number)) for r in here for status, number in r.ended.items()]
    yield counter("runs_ended", "Runs that ended, by how, since the runner began.", ["status"], ended)


def _request_families(counted: Requests) -> Iterator[Metric]:
    help = "HTTP requests that are answered, by the route's own pattern; streams count when they end."
    yield counter("http_requests", help, ["method", "route", "status"], counted.statuses.items())
    times = ((labels, buckets, total) for labels, (buckets, total) in counted.times.items())
    help = "From an HTTP request's headers to the last byte of its answer."
    yield histogram("http_request_duration_seconds", help, ["method", "route"], BOUNDS, times)
    help = "HTTP requests whose answer is not out yet, streams among them."
    yield gauge("http_requests_in_progress", help, [], [([], float(counted.under_way))])
    failures = (([part], number) for part, number in counted.failures.items())
    yield counter("scrape_failures", "Parts of the server that did not answer a scrape in time.", ["part"], failures)
