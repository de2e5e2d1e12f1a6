"""Several generations of one request, as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from janflask.inference.deltas import Done
from janflask.ipc.messages.generation import Timings, Usage


def total(results: Sequence[Done]) -> Done:
    """The sums over several generations; their times add up though they ran side by side."""
    if len(results) == 1:
        return results[0]
    usages = [result.usage for result in results]
    timings = [result.timings for result in results]
    return Done(
        Usage(
            prompt_tokens=sum(usage.prompt_tokens for usage in usages),
            completion_tokens=sum(usage.completion_tokens for usage in usages),
            cached_tokens=sum(usage.cached_tokens for usage in usages),
            reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
            accepted_prediction_tokens=_sum(usage.accepted_prediction_tokens for usage in usages),
            rejected_prediction_tokens=_sum(usage.rejected_prediction_tokens for usage in usages),
        ),
        Timings(
            cache_n=sum(timing.cache_n for timing in timings),
            prompt_n=sum(timing.prompt_n for timing in timings),
            prompt_ms=sum(timing.prompt_ms for timing in timings),
            predicted_n=sum(timing.predicted_n for timing in timings),
            predicted_ms=sum(timing.predicted_ms for timing in timings),
            queue_ms=sum(timing.queue_ms for timing in timings),
        ),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    """Of those that are known."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
