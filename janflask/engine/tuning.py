"""Which knobs are fastest here: measured once per machine, model and settings, then remembered.

No constant is right: flash attention on a CPU helps one machine and costs another a factor of five, a unified KV
makes shared prefixes free and everybody's attention slower. So the start-up proof times real decodes on this machine,
with the model that will be served, under every combination that the user has not pinned, and keeps the one that takes
the least time for a typical exchange, alone and with a full house.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from janflask.engine.context import ContextOptions, LlamaContext
from janflask.engine.cores import usable_cores
from janflask.engine.knob_cache import fingerprint, recall, remember
from janflask.engine.model import Model
from janflask.engine.trial import Trial
from janflask.errors import EngineError
from janflask.models.engine_info import Knobs
from janflask.models.engine_settings import EngineSettings

log = logging.getLogger(__name__)

STEADY = 1.5  # a figure whose median is further from its best was measured on a busy machine
LIMIT = 30.0  # seconds after which no further combination is measured
DEPTHS = (512, 256, 128, 64)  # tokens of context to measure at: the deepest that fits the budget
BUDGET = 6.0  # seconds that the prompts of one measurement may take in all
EXCHANGE = (256, 128)  # prompt and generated tokens of the exchange that combinations are compared by
SLICES = (32, 64, 128, 256)
PROBE = 64  # tokens of the slice that a prompt token's cost is taken from
CLEARLY = 1.05  # how much faster a stream for each sequence must be to be worth it
SLICE_STEPS = 2.0  # a slice may lengthen a full house's step by this many ordinary steps
SLICE_WASTE = 1.5  # and may cost this much more a token than the cheapest size

Report = Callable[[float], None]  # the fraction of the measurements that is done


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one combination."""

    prompt_token: float
    decode_one: float
    decode_all: float
    n_seq: int
    spread: float = 1.0  # see Trial

    def exchange(self) -> tuple[float, float]:
        """A typical exchange's cost, alone and as a share of a full house."""
        prompt, generated = EXCHANGE
        return (
            prompt * self.prompt_token + generated * self.decode_one,
            prompt * self.prompt_token + generated * self.decode_all / self.n_seq,
        )


def thread_candidates(settings: EngineSettings) -> list[int]:
    """All physical cores; where there are many, also fewer of them (memory bandwidth may be used up before)."""
    if settings.cpu_threads is not None:
        return [settings.cpu_threads]
    cores = usable_cores()
    return [cores] if cores < 4 else sorted({cores, cores * 3 // 4, cores // 2}, reverse=True)


def tune(model: Model, settings: EngineSettings, options: ContextOptions, cache_file: Path, report: Report) -> Knobs:
    """The knobs to run with: pinned by ``settings``, remembered in ``cache_file``, or measured now and remembered."""
    flash, unified, size, threads = settings.flash_attn, settings.kv_unified, settings.slice_size, settings.cpu_threads
    if flash is not None and unified is not None and size is not None and threads is not None:
        return Knobs(flash_attn=flash, kv_unified=unified, slice_size=size, cpu_threads=threads, source="pinned")
    key = fingerprint(model, settings, options)
    remembered = recall(cache_file, key)
    if remembered is not None:
        return remembered
    started = time.monotonic()
    deadline = started + LIMIT
    knobs = measure(model, settings, options, report, deadline)
    log.info("measured the knobs in %.1f s: %s", time.monotonic() - started, knobs)
    if knobs.source == "measured":
        remember(cache_file, key, knobs)
    else:
        log.warning("the machine is too busy to measure well: these knobs serve now, the next start measures again")
    return knobs


def prove(context: LlamaContext) -> None:
    """One decode on the context that will serve: a library that crashes on this machine crashes here, not in a request.

    Raises EngineError when llama.cpp refuses it.
    """
    context.batch.clear()
    context.batch.add(array("i", [0]), 0, 1, 0, True)
    code = context.decode()
    if code != 0:
        raise EngineError(f"the start-up proof failed: llama_decode gave {code}")
    context.trim(0, 0)


def measure(model: Model, settings: EngineSettings, options: ContextOptions, report: Report, deadline: float) -> Knobs:
    """Times every combination that is not pinned; see the module's text. After ``deadline`` what is known decides."""
    combinations = _combinations(settings, options)
    depth = _depth(model, options, len(combinations))
    room = depth + options.batch_size + 8
    options = replace(options, ctx_len=room, kv_cells=options.n_seq * room)
    timings: dict[tuple[bool, bool], Timing] = {}
    for done, (flash, unified) in enumerate(combinations):
        if timings and time.monotonic() > deadline:
            break
        timings[flash, unified] = _time(model, replace(options, flash_attn=flash, kv_unified=unified), depth)
        report((done + 1) / (len(combinations) + 1))
    flash, unified = fastest(timings)
    options = replace(options, flash_attn=flash, kv_unified=unified)
    threads, slices, figures = _time_slices(model, settings, options, depth, timings[flash, unified].decode_all)
    report(1.0)
    size = best_slice(slices, timings[flash, unified].decode_all)
    figures["slice_ms"] = slices[size]
    steady = time.monotonic() < deadline and max(timing.spread for timing in timings.values()) <= STEADY
    for (fa, kvu), timing in timings.items():
        name = f"flash_attn={int(fa)} kv_unified={int(kvu)}"
        figures[f"{name}: prompt token"] = timing.prompt_token
        figures[f"{name}: decode 1"] = timing.decode_one
        figures[f"{name}: decode {timing.n_seq}"] = timing.decode_all
    return Knobs(
        flash_attn=flash,
        kv_unified=unified,
        slice_size=size,
        cpu_threads=threads,
        source="measured" if steady else "provisional",
        measurements={name: round(value, 3) for name, value in figures.items()},
    )


def _time(model: Model, options: ContextOptions, depth: int) -> Timing:
    """One combination's figures."""
    with closing(Trial(model, options)) as trial:
        trial.fill(depth)
        token, one = trial.slice(depth, PROBE) / PROBE, trial.decode(depth, 1)
        return Timing(token, one, trial.decode(depth, options.n_seq), options.n_seq, trial.spread)


def _time_slices(
    model: Model, settings: EngineSettings, options: ContextOptions, depth: int, step_ms: float
) -> tuple[int, dict[int, float], dict[str, float]]:
    """Threads, the cost of slice sizes with them, and both as figures to report."""
    with closing(Trial(model, options)) as trial:
        trial.fill(depth)
        candidates = thread_candidates(settings)
        by_threads = {candidates[0]: step_ms}
        for count in candidates[1:]:
            trial.context.set_threads(count)
            by_threads[count] = trial.decode(depth, trial.n_seq)
        threads = min(by_threads, key=lambda count: by_threads[count])
        trial.context.set_threads(threads)
        sizes = [settings.slice_size] if settings.slice_size else list(SLICES)
        slices = {size: trial.slice(depth, size) for size in sizes if size <= options.batch_size}
    figures = {f"slice of {size}": ms for size, ms in slices.items()}
    if len(by_threads) > 1:
        figures |= {f"cpu_threads={count}: decode {options.n_seq}": ms for count, ms in by_threads.items()}
    return threads, slices, figures


def _combinations(settings: EngineSettings, options: ContextOptions) -> list[tuple[bool, bool]]:
    """(flash_attn, kv_unified) pairs to try."""
    flash = [settings.flash_attn] if settings.flash_attn is not None else [False, True]
    if options.cache_type_v not in ("f16", "f32", "bf16"):
        flash = [True]  # llama.cpp needs flash attention for a quantized V cache
    if settings.kv_unified is not None:
        unified = [settings.kv_unified]
    elif options.n_seq == 1 or options.kv_cells < options.n_seq * options.ctx_len:
        unified = [True]  # fewer cells than every sequence could fill: they must be shared
    else:
        unified = [False, True]
    return list(product(flash, unified))


def _depth(model: Model, options: ContextOptions, combinations: int) -> int:
    """How deep a context to measure at, so that all prompts together stay inside the budget. Also the first decode."""
    with closing(Trial(model, replace(options, ctx_len=128, kv_cells=128, n_seq=1, kv_unified=True))) as trial:
        trial.step([(0, 0, 1)])
        token_ms = trial.step([(0, 1, PROBE)]) / PROBE
    for depth in DEPTHS:
        if depth * token_ms * (combinations + 1) <= BUDGET * 1e3 and depth + options.batch_size + 8 <= options.ctx_len:
            return depth
    return min(DEPTHS[-1], max(1, options.ctx_len - options.batch_size - 8))


def fastest(timings: dict[tuple[bool, bool], Timing]) -> tuple[bool, bool]:
    """The (flash_attn, kv_unified) with the least cost of an exchange: alone and in a full house, weighed alike.

    A unified KV shares prefixes for free, so it is taken unless a stream for each sequence is clearly faster.
    """
    alone = min(timing.exchange()[0] for timing in timings.values())
    full = min(timing.exchange()[1] for timing in timings.values())

    def cost(key: tuple[bool, bool]) -> float:
        mine = timings[key].exchange()
        return (mine[0] / alone) * (mine[1] / full) * (1.0 if key[1] else CLEARLY)

    return min(timings, key=cost)


def best_slice(slices: dict[int, float], step_ms: float) -> int:
    """The largest slice that keeps a full house's step short, among the sizes that do not waste compute.

    Args:
        slices: size -> milliseconds.
        step_ms: an ordinary step of a full house.
    """
    cheapest = min(ms / size for size, ms in slices.items())
    efficient = [size for size, ms in slices.items() if ms / size <= SLICE_WASTE * cheapest]
    short = [size for size in efficient if slices[size] <= SLICE_STEPS * step_ms]
    return max(short) if short else min(efficient)
