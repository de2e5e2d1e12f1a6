"""What an engine counts of its requests' times, and how finely: the one table, for who counts and who tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Upper ends of buckets, in seconds; whatever is longer falls into one more.
GAPS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.5, 1.0, 5.0)
WAITS = (0.001, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)
WHOLE = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)


@dataclass(frozen=True, slots=True)
class Latency:
    """A time that is counted."""

    help: str
    bounds: tuple[float, ...]


LATENCIES: Mapping[str, Latency] = {
    "time_to_first_token_seconds": Latency("From a request's arrival at its engine to its first token.", WAITS),
    "inter_token_latency_seconds": Latency("Between two tokens of an answer.", GAPS),
    "request_time_per_output_token_seconds": Latency("Between two tokens, on average over an answer.", GAPS),
    "e2e_request_latency_seconds": Latency("From a request's arrival at its engine to its last token.", WHOLE),
    "request_queue_time_seconds": Latency("In the engine's queue.", WAITS),
    "request_prefill_time_seconds": Latency("From a request's admission to its first token.", WAITS),
    "request_decode_time_seconds": Latency("From an answer's first token to its last.", WHOLE),
}


@dataclass(frozen=True, slots=True)
class Counted:
    """How often a time fell into each bucket (one more than there are bounds), and the sum of all, in seconds."""

    counts: tuple[int, ...]
    total: float
