"""How large a context to make: as the settings say, in which admission has put what it decided."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import psutil

from janflask.engine.context import ContextOptions
from janflask.engine.cores import usable_cores
from janflask.engine.model import Model
from janflask.errors import InvalidRequestError
from janflask.models.engine_settings import CACHE_TYPES, EngineSettings
from janflask.models.memory_estimate import BATCH_CPU, BATCH_GPU, DEFAULT_PARALLEL, default_ctx_len, in_gib

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sizing:
    """Sizes for a context, and what a user should know of how they came about."""

    options: ContextOptions
    notes: tuple[str, ...]


def size_context(model: Model, settings: EngineSettings, kv_bytes: int | None = None) -> Sizing:
    """Context sizes; the knobs in it are provisional until they are chosen. ``kv_bytes``: what the KV cache takes.

    Raises InvalidRequestError when settings contradict each other.
    """
    _check(model, settings)
    ctx_len = settings.ctx_len or default_ctx_len(model.ctx_train)
    n_seq = settings.n_parallel or DEFAULT_PARALLEL
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
    return Sizing(options, () if model.on_gpu or kv_bytes is None else _shrunk(n_seq, ctx_len, kv_bytes))


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
    if settings.reproducible and settings.flash_attn:
        raise InvalidRequestError(
            "reproducible and flash_attn cannot both be true: with flash attention numbers depend on the "
            "threads; leave one of them unset",
            param="settings.reproducible",
        )
    if settings.reproducible and settings.cache_type_v not in ("f16", "f32", "bf16"):
        raise InvalidRequestError(
            f"cache_type_v={settings.cache_type_v!r} needs flash attention, with which nothing is reproducible: use "
            "f16, f32 or bf16",
            param="settings.cache_type_v",
        )
    if settings.flash_attn is False and settings.cache_type_v not in ("f16", "f32", "bf16"):
        raise InvalidRequestError(
            f"cache_type_v={settings.cache_type_v!r} needs flash attention: leave flash_attn unset or set it to true",
            param="settings.cache_type_v",
        )


def _shrunk(n_seq: int, ctx_len: int, kv_bytes: int) -> tuple[str, ...]:
    """A note if the KV cache is more than the memory that is free now: less than when the start was admitted."""
    free = psutil.virtual_memory().available
    if kv_bytes <= free:
        return ()
    return (
        f"the KV cache of {n_seq} conversations of {ctx_len} tokens takes {in_gib(kv_bytes)} and {in_gib(free)} are "
        "free: what does not fit is swapped out; lower n_parallel or ctx_len",
    )
