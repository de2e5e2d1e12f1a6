"""Knobs to begin with, before anything was measured: what is right, or nearly, on most machines of this kind."""

from __future__ import annotations

from janflask.engine.context import ContextOptions
from janflask.engine.model import Model
from janflask.models.engine_info import Knobs
from janflask.models.engine_settings import EngineSettings

# Prompt tokens of a step that also generates, by a model's parameters: others wait as long as these take. With 64 a
# token costs about as little as with more. In a large model attention is a small part of it.
SLICES = ((1.5e9, 64), (5e9, 32), (float("inf"), 16))
SLICE_FLASH = 64  # rows of a tile: fewer flash attention on a CPU computes one by one
SLICE_GPU = 256


def guess(model: Model, settings: EngineSettings, options: ContextOptions) -> Knobs:
    """What the settings pin, and guesses for the rest.

    A stream for each sequence, unless they have to share cells: in one buffer everybody's attention runs over
    everybody's cells. Flash attention wherever it may be: on a CPU, too, it gains most where everybody begins, in short
    contexts, and loses little in long ones as long as a slice has the rows of a tile.
    """
    flash = guess_flash(settings, options)
    return Knobs(
        flash_attn=flash,
        kv_unified=guess_layout(settings, options),
        slice_size=settings.slice_size or _slice(model, options),
        cpu_threads=options.cpu_threads,
        source="pinned" if is_pinned(settings) else "guessed",
    )


def is_pinned(settings: EngineSettings) -> bool:
    """The settings leave nothing to choose."""
    chosen = (settings.flash_attn, settings.kv_unified, settings.slice_size, settings.cpu_threads)
    return None not in chosen


def guess_layout(settings: EngineSettings, options: ContextOptions) -> bool:
    """Whether all sequences share one KV buffer."""
    if settings.kv_unified is not None:
        return settings.kv_unified
    return options.n_seq == 1 or options.kv_cells < options.n_seq * options.ctx_len


def flash_choices(settings: EngineSettings, options: ContextOptions) -> tuple[bool, ...]:
    """Whether flash attention may be off, on, or either."""
    if settings.flash_attn is not None:
        return (settings.flash_attn,)
    if settings.reproducible:
        return (False,)
    if options.cache_type_v not in ("f16", "f32", "bf16"):
        return (True,)  # llama.cpp needs it for a quantized V cache
    return (False, True)


def guess_flash(settings: EngineSettings, options: ContextOptions) -> bool:
    """Whether flash attention is on."""
    return True in flash_choices(settings, options)


def _slice(model: Model, options: ContextOptions) -> int:
    if model.on_gpu:
        return min(SLICE_GPU, options.batch_size)
    size = next(tokens for most, tokens in SLICES if model.n_params <= most)
    return min(size, options.batch_size)
