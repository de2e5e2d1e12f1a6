"""Every run under way, each in a thread of its own.

A run is on disk before it comes here and its log is as it grows, so this process may end at any time: the next one
finds what is open and goes on. A run that waits for the outputs of calls has no thread here: whoever brings them writes
them down and says that it is to go on; only its time is looked after.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace

from janflask.container import Services
from janflask.errors import InvalidRequestError, JanflaskError, NotFoundError, StoreDamagedError, UnavailableError
from janflask.files import ids
from janflask.ipc.messages.runner import RunnerStats
from janflask.runner.execution import Execution
from janflask.runner.live import Halt, LiveRun, Watcher
from janflask.runner.loading import CLOSING
from janflask.services.endings import failed
from janflask.services.run_calls import seen
from janflask.services.run_told import told
from janflask.settings import Settings
from janflask.storage.base import Repository
from janflask.storage.records import Run, RunStatus

MAX_UNDER_WAY = 256  # runs; further ones are queued
CLOCK_PAUSE = 0.25  # seconds between two looks for runs whose time is over
GONE_PAUSE = 1.0  # seconds between two looks whether the threads that are being answered are there still
RECOVERY_PAUSE = 10.0  # seconds between two looks for runs that nobody has said to begin
END_TIME = 5.0  # seconds that whoever asks for a run whose time is over waits for its end
BEING_MADE_MS = 60_000  # a run that is listed and not there yet may be about to come for that long

Key = tuple[str, str]  # thread id, run id

log = logging.getLogger(__name__)


class Runner:
    """Carries out runs. All methods are for any thread."""

    def __init__(
        self, settings: Settings, services: Services, repository: Repository, most: int = MAX_UNDER_WAY
    ) -> None:
        self._settings = settings
        self._services = services
        self._threads = repository.threads
        self._runs = repository.runs
        self._repository = repository
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="run")
        self._lock = threading.Lock()  # guards what follows
        self._lives: dict[Key, LiveRun] = {}
        self._parked: dict[Key, int] = {}  # runs that wait for outputs, and when they expire
        self._ended: Counter[str] = Counter()
        self._closing = threading.Event()
        self._clock = threading.Thread(target=self._watch_clock, name="clock", daemon=True)
        self._clock.start()

    def begin(self, thread_id: str, run_id: str) -> Run:
        """The run, which is carried out from now on; one that is under way, waits or is final stays as it is.

        One that waited in vain has ended when this returns. Raises NotFoundError, StoreDamagedError, and
        UnavailableError while this process ends.
        """
        run, live = self._live(thread_id, run_id)
        if live is None or live.future is None or run.status is not RunStatus.REQUIRES_ACTION:
            return run
        wait([live.future], END_TIME)
        return live.run

    def cancel(self, thread_id: str, run_id: str) -> Run:
        """The run, which is about to end. Raises InvalidRequestError for one that is final, and what ``begin`` does."""
        _, live = self._live(thread_id, run_id)
        if live is None:  # it is over, or waits
            run = self._runs.update(thread_id, run_id, _cancelling)
        else:
            run = live.update(_cancelling)
            self._halt(live, Halt.CANCELLED)
        _, now = self._live(thread_id, run_id)  # one that waits, be it since just now, has to be ended by somebody
        if now is not None and now is not live:
            self._halt(now, Halt.CANCELLED)
        return run

    @contextmanager
    def watched(self, thread_id: str, run_id: str, watcher: Watcher) -> Iterator[None]:
        """While it lasts, ``watcher`` hears the run, its events, and every change until it is final, or waits.

        The end comes early when this process ends. Raises what ``begin`` does.
        """
        run, live = self._live(thread_id, run_id)
        if live is not None:
            with live.watched(watcher):
                yield
            return
        run, events = told(self._repository, run)
        watcher(run)
        watcher((1, events))
        watcher(None)
        yield

    def stats(self) -> RunnerStats:
        """How many runs there are, and how those ended that did here."""
        with self._lock:
            begun = sum(live.future is not None and live.future.running() for live in self._lives.values())
            waiting = len(self._lives) - begun
            return RunnerStats(begun, waiting, len(self._parked), dict(self._ended), os.getpid())

    def open_runs(self) -> list[Key]:
        """Those that are carried out now, or wait for a thread."""
        with self._lock:
            return list(self._lives)

    def recover(self) -> None:
        """Goes on with every run that was left in the middle."""
        for thread_id, run_id in list(self._runs.all_open()):
            try:
                self._recover(thread_id, run_id)
            except JanflaskError as error:
                log.error("run %s of thread %s is left as it is: %s", run_id, thread_id, error.message)

    def close(self) -> None:
        """Every run stops where it is, and is left to the next process. Returns when all have."""
        with self._lock:
            self._closing.set()
            lives = list(self._lives.values())
        for live in lives:
            live.halt(Halt.STOPPED)
        self._pool.shutdown(wait=True, cancel_futures=True)
        for live in lives:
            live.leave()

    # --- one run ------------------------------------------------------------------------------------------------

    def _live(self, thread_id: str, run_id: str) -> tuple[Run, LiveRun | None]:
        """A run, and how it goes on unless it is final or waits."""
        key = thread_id, run_id
        with self._lock:
            live = self._lives.get(key)
            if live is not None and not live.is_parked:
                return live.run, live
            self._parked.pop(key, None)
            run = self._runs.get(thread_id, run_id)
            if run.status.is_final:
                return run, None
            is_over = run.expires_ms <= ids.now_ms()
            if run.status is RunStatus.REQUIRES_ACTION and not is_over:
                self._parked[key] = run.expires_ms
                return run, None
            if self._closing.is_set():
                raise UnavailableError(CLOSING, retry_after=1)
            try:
                events = self._runs.events(thread_id, run_id)
            except StoreDamagedError as error:  # nobody knows behind what to go on
                ending = failed(error)
                return self._runs.close(thread_id, run_id, lambda run: replace(run, **ending)), None
            live = LiveRun(self._runs, run, events)
            if run.status is RunStatus.CANCELLING:
                live.halt(Halt.CANCELLED)
            elif run.status is RunStatus.REQUIRES_ACTION:
                live.halt(Halt.EXPIRED)
            self._lives[key] = live
            live.future = self._pool.submit(copy_context().run, self._carry_out, live)
            return run, live

    def _carry_out(self, live: LiveRun) -> None:
        waits = False
        try:
            waits = Execution(self._services, self._repository, live).carry_out()
        except Exception:
            log.exception("run %s is left as it is", live.run.id)
        finally:
            key = live.run.thread_id, live.run.id
            with self._lock:
                if self._lives.get(key) is live:
                    del self._lives[key]
                if live.run.status.is_final:
                    self._ended[live.run.status.value] += 1
            live.leave()
            if waits:
                self._park(key)

    def _park(self, key: Key) -> None:
        """Its outputs may have come already, or somebody may have cancelled it; else the clock looks after it."""
        try:
            self._live(*key)
        except JanflaskError as error:
            log.info("run %s is left to the next look for open runs: %s", key[1], error.message)

    def _halt(self, live: LiveRun, why: Halt) -> None:
        live.halt(why)
        if live.future is not None and live.future.cancel():
            self._carry_out(live)  # it waits for a thread that it needs no more

    def _recover(self, thread_id: str, run_id: str) -> None:
        try:
            if self._live(thread_id, run_id)[0].status.is_final:
                self._runs.close(thread_id, run_id, lambda run: run)  # a crash came before the last step of its end
        except NotFoundError:
            if self._is_gone(thread_id) or (ids.time_of(run_id) or 0) < ids.now_ms() - BEING_MADE_MS:
                self._runs.forget(run_id)
        except StoreDamagedError as error:
            if (ids.time_of(run_id) or 0) < ids.now_ms() - BEING_MADE_MS:
                log.error("run %s of thread %s is given up: %s", run_id, thread_id, error.message)
                self._runs.forget(run_id)

    def _is_gone(self, thread_id: str) -> bool:
        try:
            self._threads.get(thread_id)
        except NotFoundError:
            return True
        except StoreDamagedError:  # it is there
            return False
        return False

    def _watch_clock(self) -> None:
        recovered = looked = time.monotonic()
        while not self._closing.wait(CLOCK_PAUSE):
            now = time.monotonic()
            try:
                if now - recovered > RECOVERY_PAUSE:  # a worker may die before it says what it wrote down
                    recovered = now
                    self.recover()
                self._expire()
                if now - looked > GONE_PAUSE:
                    looked = now
                    self._leave_deleted()
            except Exception:
                log.exception("runs are not looked after as they should be")

    def _under_way(self) -> list[LiveRun]:
        with self._lock:
            return [live for live in self._lives.values() if live.halted is None]

    def _expire(self) -> None:
        now_ms = ids.now_ms()
        for live in self._under_way():
            if live.run.expires_ms <= now_ms:
                self._halt(live, Halt.EXPIRED)
        with self._lock:
            over = [key for key, expires_ms in self._parked.items() if expires_ms <= now_ms]
        for key in over:
            self._park(key)

    def _leave_deleted(self) -> None:
        """Nobody wants the answer of a thread that was deleted."""
        for live in self._under_way():
            if self._is_gone(live.run.thread_id):
                self._halt(live, Halt.CANCELLED)


def _cancelling(run: Run) -> Run:
    if (status := seen(run).status).is_final:
        raise InvalidRequestError(f"Cannot cancel run with status '{status}'.", param="run_id")
    return replace(run, status=RunStatus.CANCELLING)
