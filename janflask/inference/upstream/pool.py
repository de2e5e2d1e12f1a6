"""The base URLs of one model entry: which one a request goes to, which are left out, who waits in line."""

from __future__ import annotations

import hashlib
import itertools
import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Collection
from pathlib import Path

import msgspec

from janflask.errors import ConflictError, JanflaskError, QueueFullError, UpstreamBusyError, UpstreamUnavailableError
from janflask.inference.upstream.address import parse_base_url
from janflask.inference.upstream.call import Attempt, Call, Limits
from janflask.inference.upstream.endpoint import Endpoint
from janflask.inference.upstream.kinds import TRAITS
from janflask.inference.upstream.places import Places, open_places
from janflask.inference.upstream.problems import Where
from janflask.models.upstream import Upstream
from janflask.models.upstream_health import BaseUrlHealth
from janflask.models.upstream_key import upstream_key
from janflask.settings import Settings

SPAN = 1 << 20  # bytes of the file of places that belong to one base URL, or to the line

log = logging.getLogger(__name__)


class Ticket:
    """A place in line."""

    __slots__ = ("place",)

    def __init__(self, place: int) -> None:
        self.place = place


class UpstreamPool:
    """One for each process and model entry. Thread-safe.

    ``max_concurrent`` and the line are counted over all processes of this server where its runtime folder is known
    (``places``); health is what this process has seen.
    """

    def __init__(self, model_id: str, upstream: Upstream, settings: Settings) -> None:
        """Raises ConflictError for what cannot be used in ``upstream``."""
        self.model_id = model_id
        self.upstream = upstream
        self._limits = Limits(connect=upstream.connect_timeout, silence=upstream.timeout)
        addresses = [parse_base_url(url) for url in dict.fromkeys(upstream.base_urls)]
        if not addresses:
            raise ConflictError(f"the upstream of {model_id} has no base_urls", param="model")
        self._tls = _tls(upstream) if any(address.secure for address in addresses) else None
        file = open_places(_places_path(settings.runtime_dir, model_id, upstream))
        places = 1 if TRAITS[upstream.kind].one_at_a_time else min(upstream.max_concurrent, SPAN)
        self.endpoints = tuple(
            Endpoint(address, Places(file, number * SPAN, places)) for number, address in enumerate(addresses)
        )
        self._line = Places(file, len(addresses) * SPAN, min(settings.queue_limit, SPAN))
        self._queue_limit = settings.queue_limit
        self._lock = threading.Lock()
        self._tickets: deque[Ticket] = deque()
        self._turn = itertools.count()
        self._closed = threading.Event()
        self._prober: threading.Thread | None = None

    # --- which one, and when ------------------------------------------------------------------------------------

    def open(self, call: Call, ticket: Ticket | None = None, tried: Collection[Endpoint] = ()) -> Attempt | None:
        """Begins ``call`` where the fewest requests are under way; None: all places are taken, or others come first.

        One in ``tried`` is taken only if there is no other. Raises UpstreamBusyError when no base URL takes requests,
        and what the attempt does.
        """
        if not call.counted:
            return self._begin(call, self._ranked(tried)[0], None)
        with self._lock:
            if self._tickets and self._tickets[0] is not ticket:
                return None
        for endpoint in self._ranked(tried):
            place = endpoint.places.take()
            if place is not None:
                return self._begin(call, endpoint, place)
        return None

    def _begin(self, call: Call, endpoint: Endpoint, place: int | None) -> Attempt:
        try:
            return self._attempt(call, endpoint, place)
        except UpstreamUnavailableError as error:  # no socket can be had
            self.failed(endpoint, error)
            raise

    def _attempt(self, call: Call, endpoint: Endpoint, place: int | None) -> Attempt:
        try:
            key = upstream_key(self.upstream) or ""
        except ConflictError:
            if place is not None:
                endpoint.places.give(place)
            raise
        where = Where(endpoint.address.url, self.upstream.model, key)
        return Attempt(call, endpoint, place, where, self._tls, self._limits)

    def join(self) -> Ticket:
        """Waits in line from now on. Raises QueueFullError when too many do."""
        place = self._line.take()
        if place is None:
            raise QueueFullError(
                f"all places of the upstream of {self.model_id} are taken (max_concurrent), and {self._queue_limit} "
                "requests wait for one; try again later",
                retry_after=1,
            )
        ticket = Ticket(place)
        with self._lock:
            self._tickets.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Out of the line."""
        with self._lock:
            self._tickets.remove(ticket)
        self._line.give(ticket.place)

    def waiting(self) -> int:
        """How many are in line, in whichever process."""
        return self._line.taken()

    def other_than(self, endpoint: Endpoint) -> bool:
        """Whether there is another base URL that is not left out."""
        return any(each is not endpoint and not each.is_out for each in self.endpoints)

    def _ranked(self, tried: Collection[Endpoint]) -> list[Endpoint]:
        """Those that a request may go to, the best first."""
        well = [endpoint for endpoint in self.endpoints if not endpoint.is_out]
        if not well:  # rather one that may be back than a refusal
            return [min(self.endpoints, key=lambda endpoint: (endpoint in tried, endpoint.due))]
        free = [endpoint for endpoint in well if not endpoint.busy_for()]
        if not free:
            seconds = min(endpoint.busy_for() for endpoint in well)
            raise UpstreamBusyError(
                f"the upstream of {self.model_id} takes no more requests now", retry_after=max(1, round(seconds))
            )
        turn, count = next(self._turn), len(free)
        order = {endpoint: (number - turn) % count for number, endpoint in enumerate(free)}
        return sorted(free, key=lambda each: (each in tried, each.places.taken(), order[each]))

    # --- how they are -------------------------------------------------------------------------------------------

    def failed(self, endpoint: Endpoint, error: JanflaskError) -> None:
        """``endpoint`` is left out until it answers again."""
        log.warning("%s: %s", self.model_id, error.message)
        self._leave_out(endpoint, error)

    def _leave_out(self, endpoint: Endpoint, error: JanflaskError) -> None:
        endpoint.failed(error)
        with self._lock:
            if self._prober is None and not self._closed.is_set():
                self._prober = threading.Thread(target=self._probe, name=f"upstream {self.model_id}", daemon=True)
                self._prober.start()

    def health(self) -> list[BaseUrlHealth]:
        """Each base URL as it is for this process."""
        return [endpoint.health() for endpoint in self.endpoints]

    def check(self, endpoint: Endpoint, timeout: float) -> bool:
        """Asks ``endpoint`` for its models; whether it answered is remembered."""
        call = Call(path="/models", counted=False)
        try:
            self._attempt(call, endpoint, None).finish(timeout)
        except JanflaskError as error:
            self._leave_out(endpoint, error)
            return False
        if endpoint.is_out:
            log.info("%s: the upstream %s is back", self.model_id, endpoint.address.url)
        endpoint.back()
        return True

    def check_all(self, timeout: float) -> list[BaseUrlHealth]:
        """``health`` after each base URL was asked, all at once, within about ``timeout`` seconds."""
        threads = [
            threading.Thread(target=self.check, args=(endpoint, timeout), daemon=True) for endpoint in self.endpoints
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.health()

    def close(self) -> None:
        """Closes idle connections; requests under way come to their end."""
        self._closed.set()
        for endpoint in self.endpoints:
            endpoint.idle.close()

    def _probe(self) -> None:
        """Takes back what answers again; ends when nothing is left out."""
        while True:
            with self._lock:
                out = [endpoint for endpoint in self.endpoints if endpoint.is_out]
                if not out or self._closed.is_set():
                    self._prober = None
                    return
            first = min(out, key=lambda endpoint: endpoint.due)
            if not self._closed.wait(max(0.0, first.due - time.monotonic())) and first.due <= time.monotonic():
                self.check(first, self._limits.connect)


def _tls(upstream: Upstream) -> ssl.SSLContext:
    """Verification is always on."""
    try:
        return ssl.create_default_context(cafile=upstream.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConflictError(
            f"ca_file of the model's upstream, {upstream.ca_file}, cannot be used: {error.strerror or error}",
            param="model",
        ) from None


def _places_path(folder: Path | None, model_id: str, upstream: Upstream) -> Path | None:
    if folder is None:
        return None
    what = msgspec.json.encode([model_id, upstream.base_urls, upstream.model])
    return folder / f"upstream-{hashlib.sha256(what).hexdigest()[:24]}.places"
