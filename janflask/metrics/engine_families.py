"""What engines count, as metric families by model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.metrics_core import Metric

from janflask.ipc.messages.engine import Metrics
from janflask.metrics.families import by_model, counter, gauge, histogram
from janflask.models.engine_info import EngineStats
from janflask.models.latencies import LATENCIES

MODEL = ["model_name"]

_Number = Callable[[EngineStats], float]

_GAUGES: dict[str, tuple[str, _Number]] = {
    "num_requests_running": ("Answers that are being computed.", lambda stats: stats.busy),
    "num_requests_waiting": ("Answers that wait for a place.", lambda stats: stats.waiting),
    "kv_cache_usage_perc": (
        "Which part of the KV cache's cells answers under way hold; 1 is all of it. Idle prefixes give way to them.",
        lambda stats: stats.kv_busy / stats.kv_cells if stats.kv_cells else 0.0,
    ),
    "engine_stalled_seconds": (
        "Since the engine's loop came round while it has work; 0 while it has none.",
        lambda stats: stats.stalled_seconds,
    ),
}
_COUNTERS: dict[str, tuple[str, _Number]] = {
    "prompt_tokens": ("Tokens of prompts, computed or from the cache.", lambda stats: stats.asked_tokens),
    "prompt_tokens_cached": ("Of them, those taken from the prefix cache.", lambda stats: stats.cached_tokens),
    "prefix_cache_queries": ("Prompt tokens looked for in the prefix cache.", lambda stats: stats.looked_up_tokens),
    "prefix_cache_hits": ("Prompt tokens found there.", lambda stats: stats.cached_tokens),
    "generation_tokens": ("Tokens generated.", lambda stats: stats.generated_tokens),
    "forced_tokens": ("Of them, those that a constraint left no choice in.", lambda stats: stats.forced_tokens),
    "num_preemptions": ("Answers put back because KV cells ran short.", lambda stats: stats.preempted),
    "spec_decode_num_draft_tokens": ("Tokens guessed ahead and computed.", lambda stats: stats.drafted_tokens),
    "spec_decode_num_accepted_tokens": ("Of them, those that came true.", lambda stats: stats.accepted_tokens),
    "engine_steps": ("Decodes.", lambda stats: stats.steps),
    "constraint_wait_seconds": ("That answers were held up by constraints.", lambda stats: stats.mask_seconds),
    "kv_states_restored": ("KV states taken up instead of computing.", lambda stats: stats.states_restored),
    "kv_states_refused": ("KV states that llama.cpp did not take or hand out.", lambda stats: stats.states_refused),
}


def engine_families(engines: Mapping[str, Metrics]) -> Iterator[Metric]:
    """Of the running engines, by model."""
    for name, (help, number) in _GAUGES.items():
        yield gauge(name, help, MODEL, by_model({model: number(told.stats) for model, told in engines.items()}))
    resident = {model: float(told.stats.kv_bytes) for model, told in engines.items() if told.stats.kv_bytes is not None}
    yield gauge("kv_cache_resident_bytes", "What of the KV cache is in RAM now.", MODEL, by_model(resident))
    for name, (help, number) in _COUNTERS.items():
        yield counter(name, help, MODEL, by_model({model: number(told.stats) for model, told in engines.items()}))
    ended = (([model, how], float(count)) for model, told in engines.items() for how, count in told.ended.items())
    yield counter("request_success", "Answers that ended, by how.", ["model_name", "finished_reason"], ended)
    for name, latency in LATENCIES.items():
        counted = ((model, told.latencies[name]) for model, told in engines.items() if name in told.latencies)
        samples = (([model], times.counts, times.total) for model, times in counted)
        yield histogram(name, latency.help, MODEL, latency.bounds, samples)
