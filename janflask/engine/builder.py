"""From a model and its settings to a loop that is ready to run, and the description of what came out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from janflask.engine.context import LlamaContext
from janflask.engine.drafting import MOST
from janflask.engine.embedder import Embedder
from janflask.engine.embedding import (
    PACK_TOKENS,
    EmbeddingContext,
    EmbeddingPlan,
    is_made_for_embeddings,
    plan_embeddings,
)
from janflask.engine.exact_rows import ALL, FEW, ExactRows
from janflask.engine.fingerprint import fingerprint
from janflask.engine.giving_back import GiveBack
from janflask.engine.guesses import guess
from janflask.engine.knowledge import Knowledge
from janflask.engine.loop import Loop
from janflask.engine.matcher import MaskThread
from janflask.engine.measuring import LEAST_CELLS, Measuring
from janflask.engine.model import LLAMA_VERSION, Model
from janflask.engine.plan import ContextPlan, governor_of, limits_of, planned
from janflask.engine.prefix_cache import PrefixCache
from janflask.engine.retuning import Reconsidering, Retuning
from janflask.engine.sizing import size_context
from janflask.engine.snapshots import Snapshots
from janflask.engine.trial import Trial
from janflask.engine.tuning import flash_name, prove
from janflask.errors import EngineError
from janflask.files import kv_folder
from janflask.ipc.messages.launch import EngineSpec
from janflask.models.default_layout import layout_note
from janflask.models.engine_info import EngineInfo, Knobs
from janflask.models.engine_settings import EngineSettings

log = logging.getLogger(__name__)


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


def build(
    model: Model,
    spec: EngineSpec,
    report: Callable[[str, float], None],
    tell: Callable[[Knobs], None] = lambda knobs: None,
) -> Engine:
    """All that serves ``model``, proved now or at an earlier start.

    ``report`` is told of stages, and how far they are (0 to 1). ``tell`` is told, by the loop's thread, when the knobs
    change later.

    Raises ModelLoadError, InvalidRequestError for settings that cannot be, EngineError when the proof fails.
    """
    if is_made_for_embeddings(model) and spec.settings.embedding is not False:
        return _build_embedder(model, spec, report)
    plan, knowledge = prepare(model, spec)
    context = LlamaContext(model, plan.options)
    report("proving", 0.0)
    snapshots, forgetful = _snapshots(model, spec, plan)
    first_ms = _proved(context, knowledge, spec.settings)
    loop = build_loop(context, plan, spec.settings, snapshots, spec.state_bytes, first_ms)
    _measure_at_rest(loop, context, plan, spec, knowledge, tell)
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
    root = Path(spec.cache_dir) / kv_folder.FOLDER
    try:
        mark = fingerprint(Path(spec.model_path), spec.settings, plan.options, by_room=model.follows_room)
        return Snapshots(root, spec.model_id, mark, spec.snapshot_bytes, can_trim=model.can_trim), ()
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


def prepare(model: Model, spec: EngineSpec) -> tuple[ContextPlan, Knowledge]:
    """Sizes the context and chooses the knobs: by what is known of this machine, or guessed. Nothing is measured.

    Raises what ``size_context`` raises.
    """
    sizing = size_context(model, spec.settings, spec.kv_bytes)
    guessed = guess(model, spec.settings, sizing.options)
    knowledge = Knowledge.of(model, spec, sizing.options, guessed)
    knobs = knowledge.choose("remembered")
    return planned(sizing.options, knobs, spec.kv_bytes, sizing.notes), knowledge


def _proved(context: LlamaContext, knowledge: Knowledge, settings: EngineSettings) -> float:
    """Milliseconds of the first token, computed here unless an earlier start has, by the same kernels of the same CPU.

    A change from one model to another is over sooner by it. On a GPU it fails for reasons that are new each time, as
    memory that others have taken.
    """
    kernels = f"{flash_name(context.options.flash_attn)}, reproducible={int(settings.reproducible)}"
    known = knowledge.first_ms(kernels)
    if known is not None and not context.model.on_gpu:
        return known
    began = time.monotonic()
    prove(context)
    first_ms = (time.monotonic() - began) * 1e3
    knowledge.prove(kernels, first_ms)
    return first_ms


def build_loop(
    context: LlamaContext,
    plan: ContextPlan,
    settings: EngineSettings,
    snapshots: Snapshots | None = None,
    state_bytes: int = 0,
    first_ms: float = 0.0,
) -> Loop:
    """Puts scheduler, cache and governor around a context; its first token took ``first_ms``."""
    cache = PrefixCache(
        plan.options.n_seq,
        enabled=settings.prefix_cache,
        can_trim=context.model.can_trim,
        min_copy=plan.min_copy,
        streams=not plan.options.kv_unified,
    )
    loop = Loop(
        context,
        cache,
        limits_of(context, plan),
        governor_of(context, plan),
        snapshots=snapshots,
        masker=MaskThread(context.model.n_vocab),
        state_bytes=state_bytes if settings.prefix_cache else 0,
        longest_draft=MOST if settings.drafts is None else settings.drafts,
        first_ms=first_ms,
    )
    exact = ExactRows(
        lambda: context.options,
        lambda options: Trial(context.model, options, loop.wake_address),
        ALL if settings.reproducible else FEW,
    )
    loop.drafting.exact = exact.most
    loop.chores.append(GiveBack(context, cache, loop.conversations))
    if context.model.can_trim and settings.drafts != 0:
        loop.chores.append(exact)
    return loop


def _measure_at_rest(
    loop: Loop,
    context: LlamaContext,
    plan: ContextPlan,
    spec: EngineSpec,
    knowledge: Knowledge,
    tell: Callable[[Knobs], None],
) -> None:
    """Gives the loop the chore, if there is anything to choose."""
    if not knowledge.choices.are_open or plan.options.kv_cells < plan.options.n_seq * LEAST_CELLS:
        return
    loop.served = knowledge.served
    reconsidering = Reconsidering(knowledge, Retuning(loop, context, plan, spec, tell), loop)
    measuring = Measuring(
        plan.options,
        lambda options: Trial(context.model, options, loop.wake_address),
        knowledge.choices,
        (spec.kv_bytes or 0) / plan.options.kv_cells,
        knowledge.figures,
        knowledge.best_flash,
        found=knowledge.remember,
        settled=reconsidering.choose,
        clock=loop.clock,
    )
    loop.chores += [measuring, reconsidering]
    loop.on_step = measuring.disturbed


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
