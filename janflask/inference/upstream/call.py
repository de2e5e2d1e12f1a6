"""One call to an upstream: what is asked, and an attempt at it under way at one base URL."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

import h11

from janflask.errors import (
    JanflaskError,
    UpstreamError,
    UpstreamSetupError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from janflask.inference.deltas import Event
from janflask.inference.upstream.endpoint import Endpoint
from janflask.inference.upstream.exchange import Exchange, Link
from janflask.inference.upstream.problems import Where, nonsense, refusal
from janflask.inference.upstream.reading import Reader, WholeReader
from janflask.inference.waiting import Waiter

MAX_REFUSAL = 256 * 1024  # bytes of an error's body that are read
USER_AGENT = "janflask"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """``path`` is below the base URL, or, with ``at_root``, below what comes before its ``/v1``.

    ``counted``: it is a request that takes a place. ``reader`` makes what reads the answer, for each attempt anew.
    """

    path: str
    reader: Callable[[], Reader] = WholeReader
    body: bytes | None = None  # None: a GET
    at_root: bool = False
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds for connecting, TLS included, and of silence in an answer."""

    connect: float
    silence: float


class Descriptor:
    """What a Waiter knows an attempt by: its own descriptor may change while it connects."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """The number."""
        return self._number


class Attempt:
    """``call`` at one base URL. Closing it cancels there."""

    def __init__(
        self,
        call: Call,
        endpoint: Endpoint,
        place: int | None,
        where: Where,
        tls: ssl.SSLContext | None,
        limits: Limits,
        *,
        fresh: bool = False,
    ) -> None:
        """Begins to connect; ``place`` is given back at the end. Raises UpstreamUnavailableError."""
        self.call = call
        self.endpoint = endpoint
        self.reader = call.reader()
        self._place = place
        self._where = where
        self._tls = tls
        self._limits = limits
        self._refused = bytearray()
        self._closed = False
        self._accepted = False
        self._error: JanflaskError | None = None
        self._last = time.monotonic()
        try:
            self._exchange = self._begin(fresh)
        except BaseException:
            self._give_place()
            raise

    def fileno(self) -> int:
        """The descriptor; it may change at each ``receive``."""
        return self._exchange.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether to wait for room to write, too."""
        return self._exchange.wants_write

    def buffered(self) -> bool:
        """``receive`` has something to tell without waiting."""
        return self._error is not None or self._exchange.buffered()

    @property
    def done(self) -> bool:
        """The answer is whole."""
        return self.reader.done

    def deadline(self) -> float:
        """When it has taken too long, by the monotonic clock."""
        return self._last + (self._limits.silence if self._exchange.connected else self._limits.connect)

    def receive(self) -> list[Event]:
        """What is new. Raises JanflaskError when it fails: what came before that is handed out first."""
        events: list[Event] = []
        if self._error is None:
            try:
                self._advance(events)
            except JanflaskError as error:
                self._error = error
        if self._error is not None and not events:
            raise self._error
        return events

    def _advance(self, events: list[Event]) -> None:
        pieces: list[bytes] = []
        try:
            self._exchange.receive(pieces)
        except (OSError, EOFError, h11.ProtocolError) as error:
            if self._is_stale(error):
                self._exchange.link.close()
                self._exchange = self._begin(fresh=True)
                return
            self._read(pieces, events)
            if not self.reader.done:
                raise self._failure(error) from error
        else:
            self._read(pieces, events)

    def overdue(self) -> UpstreamTimeoutError | UpstreamUnavailableError:
        """The error for when its deadline has come."""
        if not self._exchange.connected:
            return UpstreamUnavailableError(
                f"the upstream {self._where.base_url} took no connection within {self._limits.connect:g} s",
                retry_after=1,
            )
        return UpstreamTimeoutError(
            f"the upstream {self._where.base_url} said nothing for {self._limits.silence:g} s: the request is given up"
        )

    def close(self) -> None:
        """Ends it; the connection is kept if the answer is whole. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self.reader.done:
            self.endpoint.idle.give(self._exchange.link)
        else:
            self._exchange.link.close()
        self._give_place()

    def _begin(self, fresh: bool) -> Exchange:
        link = None if fresh else self.endpoint.idle.take()
        address = self.endpoint.address
        try:
            link = link or Link(address, self._tls)
        except OSError as error:
            raise self._unreachable(error) from error
        base = address.root if self.call.at_root else address.base
        headers = [
            ("Host", address.host_header),
            ("User-Agent", USER_AGENT),
            ("Accept", "text/event-stream, application/json"),
            ("Accept-Encoding", "identity"),
        ]
        if self._where.secret:
            headers.append(("Authorization", f"Bearer {self._where.secret}"))
        if self.call.body is not None:
            headers.append(("Content-Type", "application/json"))
        self._last = time.monotonic()
        method = "GET" if self.call.body is None else "POST"
        return Exchange(link, method, base + self.call.path, headers, self.call.body)

    def _read(self, pieces: list[bytes], events: list[Event]) -> None:
        exchange, reader = self._exchange, self.reader
        if exchange.status is None:
            return
        if exchange.status != 200:
            self._collect_refusal(pieces)
            return
        if not self._accepted:
            self._accepted = True
            self._last = time.monotonic()
            if exchange.headers.get("content-encoding", "identity") not in ("identity", ""):
                raise nonsense("an answer that is not packed", b"", self._where)
            reader.accepted(exchange.headers, self._where, events)
        for piece in pieces:
            reader.feed(piece, events)
        if exchange.complete and not reader.done:
            reader.end(events)
        if events or (pieces and isinstance(reader, WholeReader)):
            self._last = time.monotonic()  # a comment that keeps a connection alive is no answer

    def _collect_refusal(self, pieces: list[bytes]) -> None:
        self._refused += b"".join(pieces)
        if self._exchange.complete or len(self._refused) > MAX_REFUSAL:
            raise refusal(self._exchange.status or 0, self._exchange.headers, bytes(self._refused), self._where)

    def _is_stale(self, error: Exception) -> bool:
        """Whether a kept connection was closed by the other side before it had read the request."""
        return self._exchange.link.used and not self._exchange.heard and not isinstance(error, h11.ProtocolError)

    def _failure(self, error: OSError | EOFError | h11.ProtocolError) -> JanflaskError:
        if self._exchange.status not in (None, 200):  # the refusal is clear, even if not all of it came
            return refusal(self._exchange.status or 0, self._exchange.headers, bytes(self._refused), self._where)
        if isinstance(error, h11.ProtocolError):
            return UpstreamError(f"the upstream {self._where.base_url} does not speak HTTP/1.1: {error}")
        if not self._exchange.connected and isinstance(error, OSError):
            return self._unreachable(error)
        return UpstreamUnavailableError(
            f"the upstream {self._where.base_url} broke off the connection; try once more", retry_after=1
        )

    def _unreachable(self, error: OSError) -> JanflaskError:
        base = self._where.base_url
        if isinstance(error, ssl.SSLCertVerificationError):
            return UpstreamSetupError(
                f"the upstream {base} has a certificate that is not trusted ({error.verify_message}): its authority's "
                "goes into ca_file, and the name in base_urls must be the certificate's"
            )
        if isinstance(error, ssl.SSLError):
            return UpstreamSetupError(f"no TLS connection to the upstream {base} ({error.reason}): is it http?")
        reason = error.strerror or str(error) or "it closed the connection"
        return UpstreamUnavailableError(f"the upstream {base} cannot be reached: {reason}", retry_after=1)

    def _give_place(self) -> None:
        if self._place is not None:
            self.endpoint.places.give(self._place)
            self._place = None

    def finish(self, timeout: float) -> None:
        """Carries it out, with nobody else to wait for. Raises JanflaskError, also after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        try:
            while not self.done:
                waiter = Waiter()
                waiter.watch(Descriptor(self.fileno()), writing=self.wants_write)
                left = deadline - time.monotonic()
                if not self.buffered() and not waiter.wait(left) and left <= 0:
                    raise UpstreamTimeoutError(
                        f"the upstream {self._where.base_url} did not answer {self.call.path} within {timeout:g} s"
                    )
                self.receive()
        finally:
            self.close()
