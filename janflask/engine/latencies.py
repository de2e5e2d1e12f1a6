"""Counts how long requests wait, are computed and answered, where these times are known: without a lock or a clock."""

from __future__ import annotations

from bisect import bisect_left

from janflask.engine.sequence import Sequence
from janflask.models.latencies import LATENCIES, Counted


class Histogram:
    """Times by size. One thread observes, any may read: it may then see the newest in ``counts`` alone."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._total += seconds

    def counted(self) -> Counted:
        """So far."""
        return Counted(tuple(self._counts), self._total)


class Latencies:
    """Of the answers of one loop, which observes."""

    def __init__(self) -> None:
        self._all = {name: Histogram(latency.bounds) for name, latency in LATENCIES.items()}
        self._first = self._all["time_to_first_token_seconds"]
        self._each = self._all["request_time_per_output_token_seconds"]
        self._whole = self._all["e2e_request_latency_seconds"]
        self._queue = self._all["request_queue_time_seconds"]
        self._prefill = self._all["request_prefill_time_seconds"]
        self._decode = self._all["request_decode_time_seconds"]
        self.gap = self._all["inter_token_latency_seconds"].observe  # called for each token
        self._ended: dict[str, int] = {}

    def ended(self, how: str) -> None:
        """An answer ended: by a FinishReason, ``error`` or ``abort`` (its client has gone)."""
        self._ended[how] = self._ended.get(how, 0) + 1

    def answered(self, sequence: Sequence, reason: str) -> None:
        """An answer is whole."""
        self.ended(reason)
        admitted, first, last = sequence.admitted, sequence.first_token, sequence.last_token
        if admitted is None or first is None or last is None:
            return
        self._queue.observe(admitted - sequence.arrived)
        self._prefill.observe(first - admitted)
        self._first.observe(first - sequence.arrived)
        self._decode.observe(last - first)
        self._whole.observe(last - sequence.arrived)
        if sequence.n_generated > 1:
            self._each.observe((last - first) / (sequence.n_generated - 1))

    def counted(self) -> dict[str, Counted]:
        """All of them, by name; for any thread."""
        return {name: histogram.counted() for name, histogram in self._all.items()}

    def ends(self) -> dict[str, int]:
        """How answers ended; for any thread."""
        return dict(self._ended)
