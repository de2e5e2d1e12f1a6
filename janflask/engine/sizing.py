"""How large a context to make: from the settings, the model and the memory that is free."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import psutil

from janflask.engine.backend import ContextOptions, Model
from janflask.engine.cores import usable_cores
from janflask.errors import InvalidRequestError
from janflask.models.engine_settings import CACHE_TYPES, EngineSettings
from janflask.models.memory_estimate import BATCH_CPU, BATCH_GPU, DEFAULT_CTX_LEN, DEFAULT_PARALLEL, in_gib

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.8  # of the free memory that the KV cache may take by default


@dataclass(frozen=True, slots=True)
class Sizing:
    """Sizes for a context, and what a user should know of how they came about."""

    options: ContextOptions
    notes: tuple[str, ...]


def size_context(model: Model, settings: EngineSettings, kv_limit: int | None = None) -> Sizing:
    """Context sizes; the knobs in it are provisional until ``tune`` has chosen. ``kv_limit``: bytes for the KV cache.

    Raises InvalidRequestError when settings contradict each other.
    """
    _check(model, settings)
    ctx_len = settings.ctx_len or min(DEFAULT_CTX_LEN, model.ctx_train or DEFAULT_CTX_LEN)
    notes: list[str] = []
    n_seq = settings.n_parallel or _parallel_that_fits(model, settings, ctx_len, kv_limit, notes)
    kv_cells = settings.kv_cells or n_seq * ctx_len
    if settings.kv_unified is False and kv_cells < n_seq * ctx_len:
        raise InvalidRequestError(
            f"kv_cells={kv_cells} is less than n_parallel * ctx_len = {n_seq * ctx_len}, which needs a shared KV: "
            "leave kv_unified unset or set it to true",
            param="settings.kv_cells",
        )
    options = ContextOptions(
        ctx_len=ctx_len,
        n_seq=n_seq,
        kv_cells=kv_cells,
        flash_attn=bool(settings.flash_attn),
        kv_unified=bool(settings.kv_unified),
        cpu_threads=settings.cpu_threads or usable_cores(),
        batch_size=max(BATCH_GPU if model.on_gpu else BATCH_CPU, settings.slice_size or 0),
        cache_type_k=settings.cache_type_k,
        cache_type_v=settings.cache_type_v,
        rope_freq_base=settings.rope_freq_base,
        rope_freq_scale=settings.rope_freq_scale,
        rope_scaling=settings.rope_scaling,
    )
    return Sizing(options, tuple(notes))


def _check(model: Model, settings: EngineSettings) -> None:
    if settings.ctx_len is not None and model.ctx_train and settings.ctx_len > model.ctx_train:
        log.warning(
            "ctx_len %d is more than the %d tokens the model was trained for: answers get worse beyond them",
            settings.ctx_len,
            model.ctx_train,
        )
    for name in ("cache_type_k", "cache_type_v"):
        value = getattr(settings, name)
        if value not in CACHE_TYPES:
            raise InvalidRequestError(
                f"{name}={value!r} is no cache type: use one of {', '.join(CACHE_TYPES)}", param=f"settings.{name}"
            )
    if settings.flash_attn is False and settings.cache_type_v not in ("f16", "f32", "bf16"):
        raise InvalidRequestError(
            f"cache_type_v={settings.cache_type_v!r} needs flash attention: leave flash_attn unset or set it to true",
            param="settings.cache_type_v",
        )


def _parallel_that_fits(
    model: Model, settings: EngineSettings, ctx_len: int, kv_limit: int | None, notes: list[str]
) -> int:
    """Eight sequences, fewer when their KV cache would not fit into what the model may take and what is free now."""
    if settings.kv_cells is not None:
        return DEFAULT_PARALLEL
    per_sequence = ctx_len * model.kv_bytes_per_token(settings.cache_type_k, settings.cache_type_v)
    free = int(psutil.virtual_memory().available * MEMORY_SHARE)
    room = free if kv_limit is None else kv_limit if model.on_gpu else min(kv_limit, free)
    fits = int(room // max(1.0, per_sequence))
    if fits >= DEFAULT_PARALLEL:
        return DEFAULT_PARALLEL
    chosen = max(1, fits)
    notes.append(
        f"n_parallel is {chosen}, not {DEFAULT_PARALLEL}: a conversation of {ctx_len} tokens takes "
        f"{in_gib(int(per_sequence))} of KV cache and there is room for {in_gib(int(room))}; "
        "lower ctx_len for more"
    )
    return chosen
