"""All that is decided before a context is made, and what follows from it for the loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from janflask.engine.context import ContextOptions, LlamaContext
from janflask.engine.governor import Governor
from janflask.engine.guesses import SLICE_FLASH
from janflask.engine.slices import Limits
from janflask.engine.tuning import PROBE, PROMPT, SHALLOW, SLICE_COST, flash_name, shown, under
from janflask.models.engine_info import Knobs

COPY_BYTES_PER_MS = 4e6  # a cautious rate for copying a KV stream: 4 GB/s
SCORED_BYTES = 16 << 20  # of logits, for a step's prompt tokens that are scored; llama.cpp keeps what it once took


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """All that was decided before the context is made. ``min_copy``: tokens that a copy between slots must save."""

    options: ContextOptions
    knobs: Knobs
    min_copy: int
    notes: tuple[str, ...]


def planned(options: ContextOptions, knobs: Knobs, kv_bytes: int | None, notes: tuple[str, ...]) -> ContextPlan:
    """``options`` with the knobs that were chosen."""
    options = replace(
        options,
        flash_attn=knobs.flash_attn,
        kv_unified=knobs.kv_unified,
        cpu_threads=knobs.cpu_threads,
    )
    return ContextPlan(options, knobs, _min_copy(options, knobs, kv_bytes), notes)


def _min_copy(options: ContextOptions, knobs: Knobs, kv_bytes: int | None) -> int:
    """Prompt tokens a copy between slots must save: sharing cells is free, copying a stream costs its bytes."""
    if options.kv_unified or kv_bytes is None:
        return 1
    stream_bytes = kv_bytes / options.n_seq
    name = shown(flash_name(options.flash_attn), f"{PROMPT}, {SHALLOW}")
    probe_ms = knobs.measurements.get(name, float(PROBE))
    return max(1, math.ceil(stream_bytes / COPY_BYTES_PER_MS / (probe_ms / PROBE)))


def limits_of(context: LlamaContext, plan: ContextPlan) -> Limits:
    """What a step and the KV memory may hold."""
    options = plan.options
    prompt_tokens = context.step_tokens - options.n_seq  # of a step, beside one token for each sequence
    return Limits(
        kv_cells=options.kv_cells,
        shared_cells=options.kv_unified,
        chunk_size=min(options.batch_size, prompt_tokens),
        slice_size=min(plan.knobs.slice_size, prompt_tokens),
        rides=int(options.flash_attn and not options.kv_unified),
        scored_rows=max(1, SCORED_BYTES // (4 * context.model.n_vocab)),
    )


def governor_of(context: LlamaContext, plan: ContextPlan) -> Governor:
    """Sizes the slices."""
    knobs = plan.knobs
    slice_ms = knobs.measurements.get(shown(str(knobs.slice_size), under(SLICE_COST, flash_name(knobs.flash_attn))))
    floor = SLICE_FLASH if plan.options.flash_attn and not context.model.on_gpu else 8
    return Governor(knobs.slice_size, slice_ms, floor)
