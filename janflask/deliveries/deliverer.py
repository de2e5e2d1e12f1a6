"""Takes events from the spool to their receivers, one after the other for each object.

An event is removed when its receiver has said that it has it: whoever kills this process, or the receiver, between the
two, has it sent once more. What fails is tried again after longer and longer pauses, and is a dead letter in the end.
An endpoint that fails rests, too: as long as it does not answer it is asked by one event at a time.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from janflask.deliveries.post import GONE, Outcome, post
from janflask.downloads.wire import Wire
from janflask.errors import JanflaskError, StoreDamagedError
from janflask.files import ids
from janflask.files.disk import FILE_MODE, translated
from janflask.files.locks import try_lock
from janflask.settings import Settings
from janflask.webhooks.endpoints import MAX_ENDPOINTS, Endpoint, EndpointFile, Endpoints
from janflask.webhooks.outbox import WRITERS, is_gone
from janflask.webhooks.queue import BATCH, Delivery, Doubt, Queue
from janflask.webhooks.spool import NOBODY, Spool

# Seconds from one try to the next (the pauses that Standard Webhooks recommends): three days in all.
SCHEDULE = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
TOO_OLD_MS = 4 * 86_400_000  # of an event that fails once more, however often it was tried
AT_ONCE = 4  # tries under way to an endpoint
FIRST_REST, LONGEST_REST = 1.0, 300.0  # seconds that an endpoint which fails is left alone
AWAY = 3  # failures in a row after which an endpoint was away, rather than one event too much for it
LOOK = 0.25  # seconds between two looks at the spool
IDLE = 1.0  # the same where nobody is to be told anything
DOUBT_PAUSE = 1.0  # seconds between two looks at events in doubt
LONG_MS = 60_000  # that a change may take before somebody looks at what became of it
TRIM_PAUSE = 60.0

LOCK = "deliverer.lock"

Happened = Callable[[str, Mapping[str, str]], bool]  # whether a change of that type was made, told by its object

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Line:
    """An endpoint, as this process finds it."""

    endpoint: Endpoint
    under_way: dict[int, Wire] = field(default_factory=dict)
    failures: int = 0  # in a row
    rests_until: float = 0.0  # by the monotonic clock


class Deliverer:
    """Delivers what is in the spool of a data folder, in threads of its own; one process at a time does so.

    Args:
        happened: looks whether a change was made by a process that was killed over it; may raise JanflaskError.
        send: one try.
        schedule: seconds before each further try.
    """

    def __init__(
        self,
        settings: Settings,
        happened: Happened,
        *,
        send: Callable[..., Outcome] = post,
        schedule: tuple[float, ...] = SCHEDULE,
        first_rest: float = FIRST_REST,
    ) -> None:
        self._folder = settings.webhooks_dir
        self._file = EndpointFile(settings.secrets_dir, settings.lock_timeout)
        self._spool = Spool(self._folder, durable=False, timeout=settings.lock_timeout)
        self._queue = Queue(self._spool)
        self._happened = happened
        self._send = send
        self._schedule = schedule
        self._first_rest = first_rest
        self._pool = ThreadPoolExecutor(MAX_ENDPOINTS * AT_ONCE, thread_name_prefix="webhook")
        self._closing = threading.Event()
        self._wake = threading.Event()  # a try has ended
        self._lock = threading.Lock()  # guards what follows
        self._lines: dict[str, _Line] = {}
        self._looked = self._trimmed = float("-inf")  # by the monotonic clock
        self._known: Endpoints | None = None
        self._told = ""  # why nothing is sent, as the log has it
        self._claim: int | None = None
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def close(self) -> None:
        """Ends; tries under way are cut, and made again by the next deliverer."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            wires = [wire for line in self._lines.values() for wire in line.under_way.values()]
        for wire in wires:
            wire.cut()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._spool.close()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    # --- what there is to do ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = 0.0
        while not self._closing.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            try:
                pause = self._round()
                self._told = ""
            except JanflaskError as error:
                pause = IDLE
                if self._told != error.message:
                    self._told = error.message
                    log.error("no webhooks are sent: %s", error.message)
            except Exception:
                pause = IDLE
                log.exception("webhooks are not sent as they should be")

    def _round(self) -> float:
        """Does what can be done now; seconds until the next look. Raises what the file and the spool raise."""
        if not self._spool.file.exists() or not self._is_ours():
            return IDLE
        endpoints = self._file.current()
        if endpoints is not self._known and self._file.path.exists():  # one that was lost may come back
            self._queue.forget_others(endpoints.known)
            self._known = endpoints
        self._settle_doubts()
        while self._queue.hand_out(endpoints.known.values()) == BATCH and not self._closing.is_set():
            pass
        for endpoint in endpoints.known.values():
            if endpoint.disabled is None:
                self._begin(endpoint)
        self._trim(endpoints)
        return LOOK if endpoints.known else IDLE

    def _is_ours(self) -> bool:
        """Whether no other process delivers. Raises what ``translated`` does."""
        if self._claim is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            with translated("the webhooks' spool"):
                file = os.open(self._folder / LOCK, flags, FILE_MODE)
            if not try_lock(file):
                os.close(file)
                return False
            self._claim = file
        return True

    def _settle_doubts(self) -> None:
        now = time.monotonic()
        if now - self._looked < DOUBT_PAUSE:
            return
        self._looked = now
        doubts = self._queue.doubts()
        gone = {writer for writer in {doubt.writer for doubt in doubts} if self._is_gone(writer)}
        for doubt in doubts:
            if doubt.writer in gone or doubt.made_ms < ids.now_ms() - LONG_MS:
                self._settle(doubt, doubt.writer in gone)

    def _is_gone(self, writer: str) -> bool:
        return writer == NOBODY or is_gone(self._folder, writer)

    def _settle(self, doubt: Doubt, is_abandoned: bool) -> None:
        """Only an object that nobody has changed since is as its writer left it: otherwise the event is told.

        A writer that lives may make its change yet, or could not write down that it did.
        """
        try:
            made = not doubt.is_last or self._happened(doubt.type, doubt.data)
        except JanflaskError as error:
            log.warning("nobody can say yet whether %s of %s was done: %s", doubt.type, doubt.about, error.message)
            return
        if made or is_abandoned:
            told = "it is told" if made else "it was not done"
            log.info("%s of %s was left in the middle: %s", doubt.type, doubt.about, told)
            self._queue.decide(doubt.number, made)

    def _trim(self, endpoints: Endpoints) -> None:
        now = time.monotonic()
        if now - self._trimmed < TRIM_PAUSE:
            return
        self._trimmed = now
        for endpoint in endpoints.known:
            given_up, forgotten = self._queue.trim(endpoint)
            if given_up or forgotten:
                log.warning("%s: %d events given up, %d dead letters forgotten", endpoint, given_up, forgotten)
        writers = {doubt.writer for doubt in self._queue.doubts()}
        for path in (self._folder / WRITERS).glob("*"):
            if path.name not in writers and is_gone(self._folder, path.name):
                path.unlink(missing_ok=True)

    # --- an endpoint ------------------------------------------------------------------------------------------------

    def _begin(self, endpoint: Endpoint) -> None:
        """Begins as many tries as the endpoint may get now."""
        with self._lock:
            line = self._lines.setdefault(endpoint.id, _Line(endpoint))
            if line.endpoint != endpoint:  # its owner has changed it
                line.endpoint, line.failures, line.rests_until = endpoint, 0, 0.0
            most = 1 if line.failures else AT_ONCE
            room = most - len(line.under_way)
            if room <= 0 or time.monotonic() < line.rests_until:
                return
            taken = set(line.under_way)
        for delivery in self._queue.due(endpoint.id, room + len(taken)):
            if delivery.number in taken or room <= 0:
                continue
            room -= 1
            wire = Wire()
            with self._lock:
                line.under_way[delivery.number] = wire
            self._pool.submit(self._try, endpoint, line, delivery, wire)

    def _try(self, endpoint: Endpoint, line: _Line, delivery: Delivery, wire: Wire) -> None:
        try:
            outcome = self._send(endpoint, delivery.id, delivery.type, delivery.data, delivery.made_ms, wire=wire)
            if not self._closing.is_set() or outcome.has_arrived:
                self._note(endpoint, line, delivery, outcome)
        except JanflaskError as error:  # it is sent once more
            log.error("what became of %s to %s cannot be written down: %s", delivery.id, endpoint.id, error.message)
            self._rest(line, self._first_rest)
        except Exception:
            log.exception("%s to %s", delivery.id, endpoint.id)
            self._rest(line, LONGEST_REST)
        finally:
            with self._lock:
                line.under_way.pop(delivery.number, None)
            self._wake.set()

    def _note(self, endpoint: Endpoint, line: _Line, delivery: Delivery, outcome: Outcome) -> None:
        if outcome.has_arrived:
            with self._lock:
                was_away = line.failures >= AWAY
                line.failures, line.rests_until = 0, 0.0
            self._queue.delivered(delivery)
            if was_away:
                self._queue.hasten(endpoint.id)
            return
        with self._lock:
            line.failures += 1
            rest = min(LONGEST_REST, self._first_rest * 2.0 ** min(line.failures - 1, 30))
        self._rest(line, max(rest, outcome.retry_after or 0.0))
        tries = delivery.tries + 1
        log.warning("%s to %s failed (try %d): %s", delivery.id, endpoint.id, tries, outcome.problem)
        is_last = tries > len(self._schedule) or delivery.made_ms < ids.now_ms() - TOO_OLD_MS
        if is_last or outcome.status == GONE:
            self._queue.bury(delivery, outcome.problem)
            if outcome.status == GONE:
                self._disable(endpoint, outcome.problem)
        else:
            pause = self._schedule[tries - 1] * random.uniform(0.9, 1.1)  # noqa: S311 - so that not all come at once
            pause = max(pause, outcome.retry_after or 0.0)
            self._queue.failed(delivery, outcome.problem, pause, not outcome.was_heard)

    def _rest(self, line: _Line, seconds: float) -> None:
        """It is left alone for so long."""
        with self._lock:
            line.rests_until = time.monotonic() + seconds

    def _disable(self, endpoint: Endpoint, problem: str) -> None:
        """It is told nothing any more, as it has asked for."""

        def changed(endpoints: Endpoints) -> Endpoints:
            known = endpoints.known.get(endpoint.id)
            if known is None or known.url != endpoint.url:
                return endpoints
            return endpoints.with_one(msgspec.structs.replace(known, disabled=problem))

        try:
            self._file.change(changed)
        except OSError as error:
            raise StoreDamagedError(f"{self._file.path} cannot be written: {error}") from None
        log.error("%s wants no more events (%s): it is disabled until `janflask webhooks enable`", endpoint.id, problem)
        self._queue.bury_all(endpoint.id, problem)
