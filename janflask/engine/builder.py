"""From a model and its settings to a loop that is ready to run, and the description of what came out."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from janflask.engine.context import ContextOptions, LlamaContext
from janflask.engine.embedder import Embedder
from janflask.engine.embedding import (
    PACK_TOKENS,
    EmbeddingContext,
    EmbeddingPlan,
    is_made_for_embeddings,
    plan_embeddings,
)
from janflask.engine.fingerprint import fingerprint
from janflask.engine.governor import Governor
from janflask.engine.loop import Loop
from janflask.engine.matcher import MaskThread
from janflask.engine.model import LLAMA_VERSION, Model
from janflask.engine.prefix_cache import PrefixCache
from janflask.engine.scheduler import Limits
from janflask.engine.sizing import size_context
from janflask.engine.snapshots import Snapshots
from janflask.engine.tuning import prove, tune
from janflask.errors import EngineError
from janflask.files import kv_folder
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.default_layout import layout_note
from janflask.models.engine_info import EngineInfo, Knobs
from janflask.models.engine_settings import EngineSettings

log = logging.getLogger(__name__)

COPY_BYTES_PER_MS = 4e6  # a cautious rate for copying a KV stream: 4 GB/s
SCORED_BYTES = 16 << 20  # of logits, for a step's prompt tokens that are scored; llama.cpp keeps what it once took
FLASH_FLOOR = 64  # rows below which flash attention on a CPU works one by one


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """All that was decided before the context is made."""

    options: ContextOptions
    knobs: Knobs
    min_copy: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Engine:
    """What serves a model, and what it tells of itself. One of loop and embedder is there, or both are."""

    loop: Loop | None
    embedder: Embedder | None
    info: EngineInfo
    notes: tuple[str, ...]

    @property
    def workers(self) -> list[Loop | Embedder]:
        """Each needs a thread for its ``run``."""
        return [worker for worker in (self.loop, self.embedder) if worker is not None]


def build(model: Model, spec: EngineSpec, report: Callable[[str, float], None]) -> Engine:
    """All that serves ``model``, proved. ``report`` is told of stages, and how far they are (0 to 1).

    Raises ModelLoadError, InvalidRequestError for settings that cannot be, EngineError when the proof fails.
    """
    if is_made_for_embeddings(model) and spec.settings.embedding is not False:
        return _build_embedder(model, spec, report)
    plan = prepare(model, spec, lambda fraction: report("measuring", fraction))
    context = LlamaContext(model, plan.options)
    report("proving", 0.0)
    snapshots, forgetful = _snapshots(model, spec, plan)
    loop = build_loop(context, plan, spec.settings, snapshots)
    info = describe(model, plan, spec)
    notes = model.notes + plan.notes + forgetful + _without_template(info)
    if not spec.settings.embedding:
        return Engine(loop, None, info, notes)
    embeddings = plan_embeddings(model, spec.settings)
    embedder = _embedder(model, embeddings, lambda: _open_embedding(model, embeddings))  # at the first request
    info = replace(info, embedding_width=model.embedding_width)
    return Engine(loop, embedder, info, notes + embeddings.notes)


def _snapshots(model: Model, spec: EngineSpec, plan: ContextPlan) -> tuple[Snapshots | None, tuple[str, ...]]:
    """Where conversations' KV states are kept, and why they are not if somebody may have expected it."""
    if not spec.snapshot_bytes or not spec.settings.prefix_cache:
        return None, ()
    if not model.can_trim:
        return None, (
            "conversations are computed again after a restart: this model's memory (a sliding window, or recurrent) "
            "cannot be put back exactly",
        )
    try:
        mark = fingerprint(Path(spec.model_path), spec.settings, plan.options)
        return Snapshots(Path(spec.cache_dir) / kv_folder.FOLDER, spec.model_id, mark, spec.snapshot_bytes), ()
    except OSError as error:
        log.warning("conversations' KV states are not kept: %s", error)
        return None, (f"conversations are computed again after a restart: cache/kv cannot be used ({error.strerror})",)


def _without_template(info: EngineInfo) -> tuple[str, ...]:
    return () if info.chat_template else (layout_note(info.knows_chatml),)


def _build_embedder(model: Model, spec: EngineSpec, report: Callable[[str, float], None]) -> Engine:
    """Embeddings alone. Nothing is measured: their steps are all alike."""
    embeddings = plan_embeddings(model, spec.settings)
    report("proving", 0.0)
    context = _open_embedding(model, embeddings)
    options = embeddings.options
    knobs = Knobs(
        flash_attn=options.flash_attn,
        kv_unified=options.kv_unified,
        slice_size=options.batch_size,
        cpu_threads=options.cpu_threads,
        source="fixed",
    )
    plan = ContextPlan(options, knobs, min_copy=1, notes=embeddings.notes)
    info = replace(describe(model, plan, spec), embedding_width=context.width)
    return Engine(None, _embedder(model, embeddings, lambda: context), info, model.notes + embeddings.notes)


def _open_embedding(model: Model, plan: EmbeddingPlan) -> EmbeddingContext:
    context = EmbeddingContext(model, plan)
    try:
        context.prove()
    except EngineError:
        context.close()  # the next request tries again
        raise
    return context


def _embedder(model: Model, plan: EmbeddingPlan, open_context: Callable[[], EmbeddingContext]) -> Embedder:
    return Embedder(open_context, model.embedding_width, plan.options.n_seq, PACK_TOKENS, model.n_vocab)


def prepare(model: Model, spec: EngineSpec, report: Callable[[float], None]) -> ContextPlan:
    """Sizes the context and chooses the knobs. Raises what ``size_context`` and ``tune`` raise."""
    settings = spec.settings
    sizing = size_context(model, settings, spec.kv_bytes)
    knobs = tune(model, settings, sizing.options, Path(spec.cache_dir) / "tuning" / f"{spec.model_id}.json", report)
    options = replace(
        sizing.options,
        flash_attn=knobs.flash_attn,
        kv_unified=knobs.kv_unified,
        cpu_threads=knobs.cpu_threads,
    )
    return ContextPlan(options, knobs, _min_copy(options, knobs, spec.kv_bytes), sizing.notes)


def _min_copy(options: ContextOptions, knobs: Knobs, kv_bytes: int | None) -> int:
    """Prompt tokens a copy between slots must save: sharing cells is free, copying a stream costs its bytes."""
    if options.kv_unified or kv_bytes is None:
        return 1
    stream_bytes = kv_bytes / options.n_seq
    name = f"flash_attn={int(options.flash_attn)} kv_unified=0: prompt token"
    token_ms = knobs.measurements.get(name, 1.0)
    return max(1, math.ceil(stream_bytes / COPY_BYTES_PER_MS / token_ms))


def build_loop(
    context: LlamaContext, plan: ContextPlan, settings: EngineSettings, snapshots: Snapshots | None = None
) -> Loop:
    """Proves the context with one decode and puts scheduler, cache and governor around it."""
    prove(context)
    options, knobs = plan.options, plan.knobs
    cache = PrefixCache(
        options.n_seq,
        enabled=settings.prefix_cache,
        can_trim=context.model.can_trim,
        min_copy=plan.min_copy,
    )
    prompt_tokens = context.step_tokens - options.n_seq  # of a step, beside one token for each sequence
    limits = Limits(
        kv_cells=options.kv_cells,
        shared_cells=options.kv_unified,
        chunk_size=min(options.batch_size, prompt_tokens),
        slice_size=min(knobs.slice_size, prompt_tokens),
        scored_rows=max(1, SCORED_BYTES // (4 * context.model.n_vocab)),
    )
    floor = FLASH_FLOOR if options.flash_attn and not context.model.on_gpu else 8
    governor = Governor(knobs.slice_size, knobs.measurements.get("slice_ms"), floor)
    return Loop(context, cache, limits, governor, snapshots=snapshots, masker=MaskThread(context.model.n_vocab))


def describe(model: Model, plan: ContextPlan, spec: EngineSpec) -> EngineInfo:
    """What the engine tells of itself once it answers; how long that took is for who started it to say."""
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
        knows_chatml=model.knows_chatml,
        bos_token=model.special_text("bos"),
        eos_token=model.special_text("eos"),
        add_bos=model.add_bos,
        can_share_prefix=model.can_trim,
        use_extra_bufts=spec.settings.use_extra_bufts,
        knobs=plan.knobs,
        load_seconds=0.0,
        llama_version=LLAMA_VERSION,
        metadata=model.metadata,
    )
