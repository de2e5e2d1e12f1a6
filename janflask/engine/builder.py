"""From a model and its settings to a loop that is ready to run, and the description of what came out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from janflask.engine.backend import LLAMA_VERSION, ContextOptions, LlamaBackend, Model
from janflask.engine.governor import Governor
from janflask.engine.loop import Loop
from janflask.engine.prefix_cache import PrefixCache
from janflask.engine.scheduler import Limits
from janflask.engine.sizing import size_context
from janflask.engine.tuning import prove, tune
from janflask.types import EngineInfo, EngineSettings, EngineSpec, Knobs

COPY_BYTES_PER_MS = 4e6  # a cautious rate for copying a KV stream: 4 GB/s
FLASH_FLOOR = 64  # rows below which flash attention on a CPU works one by one


@dataclass(frozen=True, slots=True)
class Plan:
    """All that was decided before the context is made."""

    options: ContextOptions
    knobs: Knobs
    min_copy: int
    notes: tuple[str, ...]


def prepare(model: Model, spec: EngineSpec, report: Callable[[float], None]) -> Plan:
    """Sizes the context and chooses the knobs. Raises what ``size_context`` and ``tune`` raise."""
    settings = spec.settings
    sizing = size_context(model, settings)
    knobs = tune(model, settings, sizing.options, Path(spec.cache_dir) / "tuning" / f"{spec.model_id}.json", report)
    options = replace(
        sizing.options,
        flash_attn=knobs.flash_attn,
        kv_unified=knobs.kv_unified,
        cpu_threads=knobs.cpu_threads,
    )
    return Plan(options, knobs, _min_copy(model, options, knobs), sizing.notes)


def _min_copy(model: Model, options: ContextOptions, knobs: Knobs) -> int:
    """Prompt tokens a copy between slots must save: sharing cells is free, copying a stream costs its bytes."""
    if options.kv_unified:
        return 1
    stream_bytes = options.ctx_len * model.kv_bytes_per_token(options.cache_type_k, options.cache_type_v)
    name = f"flash_attn={int(options.flash_attn)} kv_unified=0: prompt token"
    token_ms = knobs.measurements.get(name, 1.0)
    return max(1, math.ceil(stream_bytes / COPY_BYTES_PER_MS / token_ms))


def build_loop(backend: LlamaBackend, plan: Plan, settings: EngineSettings) -> Loop:
    """Proves the context with one decode and puts scheduler, cache and governor around it."""
    prove(backend)
    options, knobs = plan.options, plan.knobs
    cache = PrefixCache(
        options.n_seq,
        enabled=settings.prefix_cache,
        can_trim=backend.model.can_trim,
        min_copy=plan.min_copy,
    )
    prompt_tokens = backend.step_tokens - options.n_seq  # of a step, beside one token for each sequence
    limits = Limits(
        kv_cells=options.kv_cells,
        shared_cells=options.kv_unified,
        chunk_size=min(options.batch_size, prompt_tokens),
        slice_size=min(knobs.slice_size, prompt_tokens),
    )
    floor = FLASH_FLOOR if options.flash_attn and not backend.model.on_gpu else 8
    return Loop(backend, cache, limits, Governor(knobs.slice_size, knobs.measurements.get("slice_ms"), floor))


def describe(model: Model, plan: Plan, spec: EngineSpec, load_seconds: float) -> EngineInfo:
    """What the engine tells of itself once it answers."""
    return EngineInfo(
        model_id=spec.model_id,
        model_path=spec.model_path,
        description=model.description,
        architecture=model.architecture,
        n_params=model.n_params,
        size_bytes=model.size_bytes,
        n_vocab=model.n_vocab,
        ctx_train=model.ctx_train,
        ctx_len=plan.options.ctx_len,
        n_parallel=plan.options.n_seq,
        kv_cells=plan.options.kv_cells,
        chat_template=model.chat_template,
        bos_token=model.special_text("bos"),
        eos_token=model.special_text("eos"),
        add_bos=model.add_bos,
        can_share_prefix=model.can_trim,
        use_extra_bufts=spec.settings.use_extra_bufts,
        knobs=plan.knobs,
        load_seconds=round(load_seconds, 3),
        llama_version=LLAMA_VERSION,
        metadata=model.metadata,
    )
