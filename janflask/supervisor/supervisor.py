"""Starts, stops and watches the engines.

It loads no model code itself. ``server`` answers its socket, ``admission`` says what may start beside what,
``idle`` stops what nobody uses. What runs is remembered, so that a supervisor that was killed is followed by one that
starts the same models again; so is a whole server, if a setting says so.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from janflask.errors import (
    ConflictError,
    JanflaskError,
    ModelLoadError,
    ModelNotFoundError,
    UnavailableError,
)
from janflask.ipc.messages.launch import EngineSpec
from janflask.ipc.messages.supervisor import Awaited, Budget
from janflask.models.catalog import ModelCatalog
from janflask.models.engine_settings import engine_settings
from janflask.models.memory_estimate import GIB
from janflask.models.state import DownloadRequest, DownloadState, ModelState, ModelStatus, state_of
from janflask.processes.looks import Looks
from janflask.processes.restart import RestartPolicy
from janflask.processes.runtime_dir import check_socket_path
from janflask.settings import Settings
from janflask.supervisor import machine_memory
from janflask.supervisor.admission import PATIENCE, Room
from janflask.supervisor.budget import MemoryBudget
from janflask.supervisor.demand import Demands
from janflask.supervisor.desired_state import Wanted, read
from janflask.supervisor.engine_process import EngineProcess
from janflask.supervisor.fetching import Fetching
from janflask.supervisor.idle import IdleWatch
from janflask.supervisor.launch import Plan
from janflask.supervisor.model_process import SupervisedModel
from janflask.supervisor.readiness import Readiness
from janflask.supervisor.spare import Spare
from janflask.supervisor.watchdog import Watchdog
from janflask.webhooks.events import Event, of_model
from janflask.webhooks.outbox import Outbox

RUNNING_FILE = "running.json"
_TOLD = frozenset({ModelStatus.RUNNING, ModelStatus.STOPPED, ModelStatus.FAILED})
UNSETTLED = frozenset({ModelStatus.DOWNLOADING, ModelStatus.STARTING, ModelStatus.STOPPING})

log = logging.getLogger(__name__)


class Supervisor:
    """Every model that was ever asked for, by id. All methods are for any thread."""

    def __init__(
        self,
        settings: Settings,
        runtime_dir: Path,
        engine_command: Sequence[str] = (sys.executable, "-m", "janflask.engine"),
        policy: RestartPolicy | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._settings = settings
        self._runtime_dir = runtime_dir
        self._command = tuple(engine_command)
        self._spare = Spare(self._command, enabled=settings.spare_engine)
        self._policy = policy
        self._catalog = ModelCatalog(settings.models_dir)
        self._downloads = Fetching(settings, self._catalog)
        self._numbers = itertools.count(1)
        limits = machine_memory.limits(settings)
        self._budget = Budget(limits.total, machine_memory.usable_ram())
        self._demands = Demands(limits.vram > 0, int(settings.kv_ram_gb * GIB))
        budget = MemoryBudget(limits, self._used if settings.admit_by_use else None)
        self._room = Room(budget, self._all, patience)
        self._idle = IdleWatch(settings.idle_unload, self._all)
        self._watchdog = Watchdog(settings.hang_timeout, self._all)
        self._readiness = Readiness(settings.ready_models, self.state)
        self._wanted = Wanted([runtime_dir / RUNNING_FILE, settings.cache_dir / RUNNING_FILE])
        self._looks = Looks()
        self._news = threading.Condition()  # guards the next one
        self._moves = 0  # changes of some model's status
        self._outbox = Outbox(settings)
        self._lock = threading.Lock()  # guards what follows; never held while a model starts or stops
        self._models: dict[str, SupervisedModel] = {}
        self._closing = False

    def start(self, model_id: str, overrides: dict[str, Any], *, displaces: bool = True) -> ModelState:
        """Returns once the model runs; with ``displaces`` idle ones make room for it if need be.

        Raises what SupervisedModel.start and Room.granted do, and what the catalog finds wrong.
        """
        model = self._model(model_id)
        if displaces:
            self._wanted.used([model.model_id])
        return model.start(lambda: self._plan(model.model_id, overrides, displaces))

    def stop(self, model_id: str) -> ModelState:
        """Returns once the engine is gone. Raises ModelNotFoundError for a model that nobody knows."""
        with self._lock:
            model = self._models.get(model_id)
        if model is None:
            card = self._catalog.get(model_id)
            with self._lock:
                model = self._models.get(card.id)
        return ModelState(model_id=card.id, status=ModelStatus.STOPPED) if model is None else model.stop()

    def states(self) -> list[ModelState]:
        """Every model that was ever asked for, and every one whose download is under way or failed, by id."""
        downloads = self._downloads.states()
        with self._lock:
            models = dict(self._models)
        return [
            _with_download(models[model_id].state() if model_id in models else None, model_id, downloads.get(model_id))
            for model_id in sorted(models.keys() | downloads.keys())
        ]

    def state(self, model_id: str) -> ModelState:
        """One model. Raises ModelNotFoundError for one that nobody knows."""
        states = {state.model_id: state for state in self.states()}
        if model_id in states:
            return states[model_id]
        card = self._catalog.get(model_id)
        if card.id in states:
            return states[card.id]
        return state_of(card)

    def budget(self) -> Budget:
        """What memory there is for models; it stays the same."""
        return self._budget

    def awaited(self) -> list[Awaited]:
        """The models that have to run before the server is ready, and do not."""
        return self._readiness.awaited()

    def download(self, request: DownloadRequest) -> ModelState:
        """Begins a download, or joins that of the same source. Raises what DownloadManager.start does."""
        with self._lock:
            if self._closing:
                raise UnavailableError("the server is shutting down", retry_after=1)
        return self.state(self._downloads.start(request))

    def cancel_download(self, model_id: str) -> ModelState:
        """The model without its download; no error when there was none."""
        self._downloads.cancel(model_id)
        try:
            return self.state(model_id)
        except ModelNotFoundError:
            return ModelState(model_id=model_id, status=ModelStatus.NOT_DOWNLOADED)

    def watch(self, model_id: str) -> Iterator[ModelState | None]:
        """The model now and at each change until it settles; None when there was none for a while (``Looks``).

        What changes by itself, a download's progress, is told as often; a change of its status at once.
        """
        told: ModelState | None = None
        with self._looks.one() as pause:
            while True:
                moves = self._moves
                state = self.state(model_id)
                yield None if state == told else state
                told = state
                if state.status not in UNSETTLED:
                    return
                with self._news:
                    self._news.wait_for(partial(self._has_moved_since, moves), pause())

    def _has_moved_since(self, moves: int) -> bool:
        return self._moves != moves

    def restore(self) -> None:
        """Goes on, in the background, with the downloads and the models of the supervisor before this one.

        What the whole server ran when it ended comes back only with ``restore_models``. Models that always have to run
        come first.
        """
        self._idle.start()
        self._watchdog.start()
        self._spare.prepare(at_once=True)
        self._downloads.resume()
        models = read(self._runtime_dir / RUNNING_FILE)
        if models is None and self._settings.restore_models:
            models = read(self._settings.cache_dir / RUNNING_FILE)
        models = models or {}
        if self._settings.restore_models:
            self._readiness.restores(models)
        self._wanted.adopt(models)
        models = {name: models.get(name, {}) for name in self._readiness.named} | models
        if models:
            threading.Thread(target=self._restart, args=(models,), name="restore", daemon=True).start()

    def close(self) -> None:
        """Stops every model, all at once; refuses new starts. What runs now is what a restore will start."""
        self._idle.close()
        self._watchdog.close()
        with self._lock:
            self._closing = True
            models = list(self._models.values())
        self._note_order(models)
        self._wanted.freeze()
        stoppers = [threading.Thread(target=model.stop) for model in models]
        for thread in stoppers:
            thread.start()
        self._spare.close()
        self._downloads.close()
        for thread in stoppers:
            thread.join()

    def _note_order(self, models: Sequence[SupervisedModel]) -> None:
        """Asks the engines which was used last. The remembered order is that of the starts until then."""
        if len(models) < 2:
            return
        with ThreadPoolExecutor(len(models)) as pool:
            idle = zip(models, pool.map(SupervisedModel.idle_seconds, models), strict=True)
            order = sorted(((seconds, model.model_id) for model, seconds in idle if seconds is not None), reverse=True)
        self._wanted.used(model_id for _, model_id in order)

    def _all(self) -> list[SupervisedModel]:
        with self._lock:
            return list(self._models.values())

    def _used(self, model_id: str) -> int | None:
        """Bytes of RAM of a model that runs; one that starts will use more."""
        with self._lock:
            model = self._models.get(model_id)
        state = None if model is None else model.state()
        return state.used_bytes if state is not None and state.status is ModelStatus.RUNNING else None

    def _model(self, model_id: str) -> SupervisedModel:
        with self._lock:
            if self._closing:
                raise UnavailableError("the server is shutting down", retry_after=1)
            known = self._models.get(model_id)
        if known is not None:
            return known
        model_id = self._catalog.get(model_id).id  # what files are called by: never a folder's name
        made = SupervisedModel(
            model_id,
            self._spawn,
            self._granted,
            stop_timeout=self._settings.stop_timeout,
            policy=self._policy,
            moved=self._moved,
            stays=model_id in self._readiness.named,
        )
        with self._lock:
            return self._models.setdefault(model_id, made)

    def _moved(self, model_id: str, status: ModelStatus) -> None:
        """A model that is stopped, has given way or has failed is not started again by a restore.

        The spare engine is replaced when the model that took it runs, so that the two do not load at once.
        """
        self._readiness.moved(model_id, status)
        with self._news:
            self._moves += 1
            self._news.notify_all()
        if status in (ModelStatus.STOPPING, ModelStatus.FAILED):
            self._wanted.drop(model_id)
        if status in _TOLD:
            self._tell(of_model(status.value, model_id))
        if status in (ModelStatus.RUNNING, ModelStatus.FAILED, ModelStatus.STOPPED):
            self._spare.prepare()

    def _tell(self, event: Event) -> None:
        try:
            self._outbox.tell(event)
        except JanflaskError as error:  # it has happened, and is seen by whoever asks
            log.error("no webhook tells %s of %s: %s", event.type, event.about, error.message)

    def _plan(self, model_id: str, overrides: dict[str, Any], displaces: bool) -> Plan:
        with self._lock:
            if self._closing:
                raise UnavailableError("the server is shutting down", retry_after=1)
        card = self._catalog.get(model_id)
        if card.problem is not None:
            raise ModelLoadError(f"{model_id} cannot be started: {card.problem}", param="model")
        if card.upstream is not None:
            raise ConflictError(f"{model_id} is run by another server: there is nothing to start here", param="model")
        if card.path is None:
            raise ConflictError(f"{model_id} has no GGUF file on this server yet: download it first", param="model")
        settings = self._catalog.with_paths(model_id, engine_settings(card.settings, self._settings, overrides))
        insists = "use_extra_bufts" in overrides and settings.use_extra_bufts
        self._wanted.add(model_id, overrides)
        template = card.settings.get("prompt_template")
        return Plan(
            model_path=card.path,
            settings=settings,
            prompt_template=template if isinstance(template, str) else None,
            insists_on_extra_bufts=insists,
            displaces=displaces,
        )

    @contextmanager
    def _granted(self, model_id: str, plan: Plan, check: Callable[[], None]) -> Iterator[Plan]:
        """The plan with the memory that it got, and with what that decides, as long as the block lasts."""
        demand = self._demands.of(Path(plan.model_path), plan.settings)
        with self._room.granted(model_id, demand, check, displaces=plan.displaces) as grant:
            yield replace(
                plan,
                settings=demand.granted(grant.n_parallel, grant.ctx_len),
                kv_bytes=grant.estimate.kv or None,
                state_bytes=grant.estimate.states,
                memory_bytes=grant.estimate.total,
                notes=grant.notes,
            )

    def _spawn(self, model_id: str, plan: Plan) -> EngineProcess:
        path = self._runtime_dir / f"engine-{os.getpid()}-{next(self._numbers)}.sock"
        check_socket_path(path)
        spec = EngineSpec(
            model_id=model_id,
            model_path=plan.model_path,
            socket_path=str(path),
            cache_dir=str(self._settings.cache_dir),
            settings=plan.settings,
            kv_bytes=plan.kv_bytes,
            snapshot_bytes=int(self._settings.kv_snapshot_gb * GIB),
            state_bytes=plan.state_bytes,
            prompt_template=plan.prompt_template,
        )
        log_path = self._settings.logs_dir / f"engine-{model_id}.log"
        return EngineProcess(self._command, spec, log_path, self._spare.take())

    def _restart(self, models: dict[str, dict[str, Any]]) -> None:
        """One after the other, as long as there is room; none makes way for the next."""
        for model_id, overrides in models.items():
            log.info("model %s: started with the server", model_id)
            try:
                self.start(model_id, overrides, displaces=False)
            except JanflaskError as error:
                log.warning("model %s: not started with the server: %s", model_id, error)
                self._readiness.failed(model_id, error.message)
                if not self._is_closing():
                    self._wanted.drop(model_id)

    def _is_closing(self) -> bool:
        with self._lock:
            return self._closing


def _with_download(state: ModelState | None, model_id: str, download: DownloadState | None) -> ModelState:
    """A model's state as it looks from outside while, or after, it is fetched."""
    if state is None:
        state = ModelState(model_id=model_id, status=ModelStatus.NOT_DOWNLOADED)
    if download is None:
        return state
    if download.stage == "failed":
        return replace(state, download=download, error=state.error or download.error)
    return replace(state, status=ModelStatus.DOWNLOADING, download=download)
