"""One model under supervision: the state machine of its engine, and when a dead engine is started again.

::

    STOPPED --start--> STARTING --ready--> RUNNING --stop--> STOPPING --gone--> STOPPED
                        |  ^  |               |                 ^
                        |  |  +-----stop------|-----------------+
                        |  +--its engine died-+
                        +--given up--> FAILED    (then start --> STARTING, stop --> STOPPED)

``STARTING`` covers the pauses between a death and the next try too. From a start on request to STOPPED or FAILED one
thread starts engines and waits for them, so no lock is held while a model loads or stops. It holds the memory that the
model was granted, from before its first engine to after its last.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import replace

from janflask.errors import EngineError, JanflaskError, ModelLoadError, ModelStoppedError, TimeoutExceededError
from janflask.ipc.clients.engine import engine_stats
from janflask.ipc.messages.engine import Ready
from janflask.models.engine_info import EngineInfo, Knobs
from janflask.models.state import ModelState, ModelStatus
from janflask.processes.restart import RestartPolicy, Restarts
from janflask.supervisor.engine_process import EngineDied, EngineProcess, Exit
from janflask.supervisor.launch import Life, Plan
from janflask.supervisor.machine_memory import resident_bytes

GRACE = 1.0  # seconds from the answer to a start to the request that it was for
STATS_TIMEOUT = 1.0  # seconds an engine may take to say how idle it is
RETIRE_TIMEOUT = 2.0  # seconds it may take to say whether it has something to do

log = logging.getLogger(__name__)

_LEGAL: dict[ModelStatus, frozenset[ModelStatus]] = {
    ModelStatus.STOPPED: frozenset({ModelStatus.STARTING}),
    ModelStatus.STARTING: frozenset({ModelStatus.RUNNING, ModelStatus.STOPPING, ModelStatus.FAILED}),
    ModelStatus.RUNNING: frozenset({ModelStatus.STARTING, ModelStatus.STOPPING}),
    ModelStatus.STOPPING: frozenset({ModelStatus.STOPPED}),
    ModelStatus.FAILED: frozenset({ModelStatus.STARTING, ModelStatus.STOPPED}),
}


Reserve = Callable[[str, Plan, Callable[[], None]], AbstractContextManager[Plan]]


class _Stopped(Exception):  # noqa: N818 - an order, not a mistake
    """``stop`` was called: the model is to end."""


class SupervisedModel:
    """All methods are for any thread.

    Args:
        spawn: makes an engine for a plan; may raise EngineError.
        granted: gives a plan the memory it needs while the block lasts; calls what it is handed every moment while
            it waits. May raise any JanflaskError.
        moved: is told of each change, under this model's lock.
        stays: it never gives way.
    """

    def __init__(
        self,
        model_id: str,
        spawn: Callable[[str, Plan], EngineProcess],
        granted: Reserve,
        *,
        stop_timeout: float,
        policy: RestartPolicy | None = None,
        moved: Callable[[str, ModelStatus], None] = lambda model_id, status: None,
        stays: bool = False,
    ) -> None:
        self.model_id = model_id
        self._spawn = spawn
        self._granted = granted
        self._moved = moved
        self._stop_timeout = stop_timeout
        self._stays = stays
        self._policy = policy or RestartPolicy()
        self._changed = threading.Condition()  # guards everything below
        self._status = ModelStatus.STOPPED
        self._ready: Future[ModelState] = Future()  # of the start under way, or of the one that led to RUNNING
        self._engine: EngineProcess | None = None
        self._info: EngineInfo | None = None
        self._error: str | None = None
        self._started_at: int | None = None
        self._restarts = 0
        self._hasten = False
        self._answered = 0.0  # when somebody was last told that it runs, by the monotonic clock
        self._memory_bytes: int | None = None
        self._retired: bool | None = None  # the engine's last answer
        self._hung: str | None = None  # why the engine was killed, if it was
        self._notes: tuple[str, ...] = ()
        self._fallback_note: str | None = None  # why this model runs without repacked weights, once that was learnt

    @property
    def status(self) -> ModelStatus:
        with self._changed:
            return self._status

    def state(self) -> ModelState:
        """How the model is right now."""
        with self._changed:
            return self._state()

    def start(self, make_plan: Callable[[], Plan]) -> ModelState:
        """Returns once the model runs: starts it, joins a start under way (ending its pause), or finds it running.

        ``make_plan`` is called only for a model that is stopped or has failed. Raises what it raises, what the start
        fails with, and ModelStoppedError when the model is stopped meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._status is not ModelStatus.STOPPING)
            if self._status in (ModelStatus.STOPPED, ModelStatus.FAILED):
                self._begin(make_plan())
            self._hasten = True
            self._changed.notify_all()
            ready = self._ready
        state = ready.result()
        with self._changed:
            self._answered = time.monotonic()
        return state

    def stop(self) -> ModelState:
        """Returns once the engine is gone: asked to end first, killed if it does not."""
        with self._changed:
            before, engine = self._status, self._engine
            if before is ModelStatus.FAILED:
                self._move(ModelStatus.STOPPED)
            elif before in (ModelStatus.STARTING, ModelStatus.RUNNING):
                self._move(ModelStatus.STOPPING)
                self._settle(ModelStoppedError(f"{self.model_id} was stopped while it started"))
        if engine is not None and before is ModelStatus.STARTING:
            engine.kill()  # it serves nobody yet
        elif engine is not None and before is ModelStatus.RUNNING:
            self._end(engine)
        with self._changed:
            self._changed.wait_for(lambda: self._status is not ModelStatus.STOPPING)
            return self._state()

    def idle_seconds(self) -> float | None:
        """Since the engine's last request; 0 while there is one, None if there is no engine that says so.

        Whoever was told just now that it runs is about to ask it something: until that has come, or is overdue, it
        counts as under way.
        """
        with self._changed:
            socket = self._state().socket
            awaited = time.monotonic() - self._answered < GRACE
        if socket is None:
            return 0.0 if awaited else None
        try:
            stats = engine_stats(socket, STATS_TIMEOUT)
            return 0.0 if awaited and stats.requests == 0 else stats.idle_seconds
        except JanflaskError as error:
            log.warning("model %s: its engine does not say how idle it is: %s", self.model_id, error)
            return None

    def retire(self) -> bool:
        """Stops the model unless it has something to do; True once it is stopping. Does not wait for its end."""
        with self._changed:
            engine = self._engine
            if self._stays or self._status is not ModelStatus.RUNNING or engine is None:
                return False
            self._retired = None
        engine.ask_to_retire()
        with self._changed:
            self._changed.wait_for(lambda: self._retired is not None or self._engine is not engine, RETIRE_TIMEOUT)
            return self._retired is True

    def end_hung(self, pid: int, what: str) -> None:
        """Kills the engine with that process id, if it still is this model's: it is started again as one that died."""
        with self._changed:
            engine = self._engine
            if self._status is not ModelStatus.RUNNING or engine is None or engine.pid != pid:
                return
            log.error("model %s: its engine (%d) hangs, %s: killed", self.model_id, pid, what)
            self._hung = what
        engine.kill()

    def _end(self, engine: EngineProcess) -> None:
        engine.ask_to_end()
        if self._wait_stopped(self._stop_timeout):
            return
        log.warning("model %s: its engine did not end within %g s: killed", self.model_id, self._stop_timeout)
        engine.terminate()
        if not self._wait_stopped(0.5):
            engine.kill()

    def _wait_stopped(self, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._status is not ModelStatus.STOPPING, timeout)

    # --- under the lock ------------------------------------------------------------------------------------------

    def _state(self) -> ModelState:
        running = self._status is ModelStatus.RUNNING
        noted = running or self._status is ModelStatus.FAILED
        engine = self._engine
        return ModelState(
            model_id=self.model_id,
            status=self._status,
            error=self._error,
            socket=engine.spec.socket_path if running and engine else None,
            pid=engine.pid if engine else None,
            started_at=self._started_at if running else None,
            restarts=self._restarts,
            notes=self._notes if noted else (),
            info=self._info if running else None,
            memory_bytes=self._memory_bytes,
            used_bytes=None if engine is None else resident_bytes(engine.pid),
        )

    def _move(self, status: ModelStatus, error: str | None = None) -> None:
        if status not in _LEGAL[self._status]:
            raise RuntimeError(f"a model cannot go from {self._status} to {status}")
        level = logging.ERROR if status is ModelStatus.FAILED else logging.WARNING if error else logging.INFO
        log.log(level, "model %s: %s%s", self.model_id, status, f": {error}" if error else "")
        self._status = status
        self._error = error
        self._moved(self.model_id, status)
        self._changed.notify_all()

    def _settle(self, outcome: ModelState | JanflaskError) -> None:
        """Answers everyone who waits for the start."""
        if self._ready.done():
            return
        if isinstance(outcome, JanflaskError):
            self._ready.set_exception(outcome)
        else:
            self._ready.set_result(outcome)

    def _begin(self, plan: Plan) -> None:
        self._move(ModelStatus.STARTING)
        self._ready = Future()
        self._restarts = 0
        self._notes = ()
        if self._fallback_note and not plan.insists_on_extra_bufts:
            plan = plan.without_extra_bufts()
        threading.Thread(target=self._run, args=(plan,), name=f"model {self.model_id}", daemon=True).start()

    # --- the model's own thread -----------------------------------------------------------------------------------

    def _run(self, plan: Plan) -> None:
        try:
            self._with_memory(plan)
        except _Stopped:
            with self._changed:
                self._move(ModelStatus.STOPPED)
        except JanflaskError as error:
            self._fail(error)
        except Exception as error:
            log.exception("model %s: the supervisor failed on it", self.model_id)
            self._fail(EngineError(f"the supervisor failed on {self.model_id}: {error!r}"))

    def _fail(self, error: JanflaskError) -> None:
        with self._changed:
            if self._status is ModelStatus.STOPPING:
                self._move(ModelStatus.STOPPED)
            else:
                self._move(ModelStatus.FAILED, error.message)
            self._settle(error)

    def _with_memory(self, plan: Plan) -> None:
        """Whoever sees the model stopped finds its memory free."""
        with self._granted(self.model_id, plan, self._check_not_stopped) as granted:
            with self._changed:
                self._memory_bytes = granted.memory_bytes
            try:
                self._keep_alive(granted)
            finally:
                with self._changed:
                    self._memory_bytes = None

    def _keep_alive(self, plan: Plan) -> None:
        """One engine after the other. Raises the error that the model fails with, or _Stopped."""
        restarts = Restarts(self._policy)
        was_ready = False
        crash: Exit | None = None  # of the start with repacked weights
        while True:
            life = self._live(plan, crash)
            was_ready = was_ready or life.served is not None
            if life.served is None and life.exit.signal and plan.settings.use_extra_bufts:
                log.warning("model %s: its engine %s in its start; again without repacked weights", self.model_id, life)
                crash = life.exit
                plan = plan.without_extra_bufts()
                with self._changed:
                    self._notes = (f"with repacked CPU weights its engine {crash} in its start: tried without them",)
                continue
            if not was_ready:
                raise ModelLoadError(f"the engine of {self.model_id} {life} before it was ready{life.last_words}")
            pause = restarts.after(life.served or 0.0)
            if pause is None:
                raise EngineError(
                    f"the engine of {self.model_id} died {restarts.deaths} times in a row; "
                    f"the last {life}{life.last_words}"
                )
            self._pause(pause)

    def _live(self, plan: Plan, crash: Exit | None) -> Life:
        """Starts one engine and waits until it is gone. Raises the error that a start fails with, or _Stopped."""
        engine = self._spawn(self.model_id, plan)
        served: float | None = None
        exit: Exit | None = None
        try:
            self._adopt(engine)
            ready = self._wait_ready(engine)
            began = time.monotonic()
            self._serve(engine, ready, plan.notes, crash)
            exit = engine.wait_death(self._on_retired, self._on_retuned)
            served = time.monotonic() - began
        except EngineDied as death:
            exit = death.exit
        finally:
            engine.close()
            self._disown(exit)
        life = Life(exit, served, engine.log_tail())
        self._check_not_stopped()
        return life

    def _adopt(self, engine: EngineProcess) -> None:
        with self._changed:
            self._check_not_stopped()
            self._engine = engine

    def _wait_ready(self, engine: EngineProcess) -> Ready:
        limit = engine.spec.settings.start_timeout
        try:
            return engine.wait_ready(limit)
        except TimeoutExceededError:
            raise TimeoutExceededError(
                f"{self.model_id} did not get ready within {limit:g} s (setting start_timeout); it was killed"
            ) from None

    def _serve(self, engine: EngineProcess, ready: Ready, notes: tuple[str, ...], crash: Exit | None) -> None:
        with self._changed:
            self._check_not_stopped()
            if crash is not None:
                self._fallback_note = f"runs without repacked CPU weights: with them its engine {crash} in its start"
            self._notes = notes + ready.notes
            if self._fallback_note is not None and not engine.spec.settings.use_extra_bufts:
                self._notes += (self._fallback_note,)
            self._info = ready.info
            self._started_at = int(time.time())
            self._move(ModelStatus.RUNNING)
            self._settle(self._state())

    def _on_retired(self, idle: bool) -> None:
        """The engine's answer. If it ends now, its death is no crash."""
        with self._changed:
            self._retired = idle
            engine = self._engine
            if idle and self._status is ModelStatus.RUNNING and engine is not None:
                self._move(ModelStatus.STOPPING)
                threading.Thread(target=self._end, args=(engine,), daemon=True).start()
            self._changed.notify_all()

    def _on_retuned(self, knobs: Knobs) -> None:
        """The engine runs with others now."""
        with self._changed:
            if self._info is not None:
                self._info = replace(self._info, knobs=knobs)

    def _disown(self, exit: Exit | None) -> None:
        """The engine is gone. If it was serving, whoever wants the model now waits for the next one."""
        with self._changed:
            self._engine = None
            how = f"hung ({self._hung})" if self._hung else exit or "is gone"
            self._hung = None
            if self._status is ModelStatus.RUNNING:
                self._ready = Future()
                self._move(ModelStatus.STARTING, f"its engine {how}; it is being started again")

    def _pause(self, seconds: float) -> None:
        """Waits before the next try, less if someone asks for the model meanwhile."""
        with self._changed:
            self._hasten = False
            self._changed.wait_for(lambda: self._hasten or self._status is not ModelStatus.STARTING, seconds)
            self._check_not_stopped()
            self._restarts += 1

    def _check_not_stopped(self) -> None:
        with self._changed:
            if self._status is ModelStatus.STOPPING:
                raise _Stopped
