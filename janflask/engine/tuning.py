"""Which knobs are fastest here: measured once per machine, model and settings, then remembered.

No constant is right: flash attention on a CPU helps one machine and costs another a factor of five, a unified KV
makes shared prefixes free and everybody's attention slower. So the start-up proof times real decodes on this machine,
with the model that will be served, under every combination that the user has not pinned, and keeps the one that takes
the least time for a typical exchange, alone and with a full house.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from array import array
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import psutil

from janflask.engine.backend import LLAMA_VERSION, ContextOptions, LlamaBackend, Model
from janflask.errors import EngineError
from janflask.types import EngineSettings, Knobs

log = logging.getLogger(__name__)

FORMAT = 1  # of the cache file; another number means: measure again
DEPTHS = (512, 256, 128, 64)  # tokens of context to measure at: the deepest that fits the time
BUDGET = 6.0  # seconds that the prompts of one measurement may take in all
EXCHANGE = (256, 128)  # prompt and generated tokens of the exchange that combinations are compared by
SLICES = (32, 64, 128, 256)
PROBE = 64  # tokens of the slice that a prompt token's cost is taken from
TRIES = 4
CLEARLY = 1.05
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

    def exchange(self) -> tuple[float, float]:
        """A typical exchange's cost, alone and as a share of a full house."""
        prompt, generated = EXCHANGE
        return (
            prompt * self.prompt_token + generated * self.decode_one,
            prompt * self.prompt_token + generated * self.decode_all / self.n_seq,
        )


class Trial:
    """A context opened for measuring, with a prompt of ``depth`` tokens in every slot."""

    def __init__(self, model: Model, options: ContextOptions) -> None:
        self.backend = LlamaBackend(model, options)
        self.n_seq = options.n_seq
        # Any tokens do, as long as they are real ones and vary: the time does not depend on what they say.
        self.tokens = array("i", (1000 + 7919 * i % max(1, model.n_vocab // 2) for i in range(options.ctx_len)))
        self.tokens = array("i", (token % model.n_vocab for token in self.tokens))

    def step(self, parts: list[tuple[int, int, int]]) -> float:
        """Milliseconds of one decode of (slot, start, count) parts."""
        batch = self.backend.batch
        batch.clear()
        for slot, start, count in parts:
            batch.add(self.tokens, start, count, slot, True)
        started = time.perf_counter()
        code = self.backend.decode()
        if code != 0:
            raise EngineError(f"the start-up proof failed: llama_decode gave {code}")
        return (time.perf_counter() - started) * 1e3

    def fill(self, depth: int) -> None:
        """A prompt of ``depth`` tokens in every slot, each in cells of its own, as real conversations are."""
        chunk = self.backend.options.batch_size
        for start in range(0, depth, chunk):
            self.step([(0, start, min(chunk, depth - start))])
        self.backend.clone(0, range(1, self.n_seq))

    def decode(self, depth: int, slots: int) -> float:
        """Milliseconds of a step in which ``slots`` sequences decode one token; the best of some tries.

        The best, not the median: other processes make a step longer, never shorter.
        """
        times = []
        for _ in range(TRIES):
            times.append(self.step([(slot, depth, 1) for slot in range(slots)]))
            for slot in range(slots):
                self.backend.trim(slot, depth)
        return min(times)

    def slice(self, depth: int, count: int, tries: int = 2) -> float:
        """Milliseconds of a prompt slice of ``count`` tokens; the best of some tries."""
        times = []
        for _ in range(tries):
            times.append(self.step([(0, depth, count)]))
            self.backend.trim(0, depth)
        return min(times)

    def close(self) -> None:
        self.backend.close()


def usable_cores() -> int:
    """Physical cores that this process may use."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed, _cgroup_cores() or physical))


def _cgroup_cores() -> int | None:
    """The CPU quota of a container, in whole cores; None without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))


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
    fingerprint = _fingerprint(model, settings, options)
    remembered = _recall(cache_file, fingerprint)
    if remembered is not None:
        return remembered
    started = time.monotonic()
    knobs = measure(model, settings, options, report)
    log.info("measured the knobs in %.1f s: %s", time.monotonic() - started, knobs)
    _remember(cache_file, fingerprint, knobs)
    return knobs


def prove(backend: LlamaBackend) -> None:
    """One decode on the context that will serve: a library that crashes on this machine crashes here, not in a request.

    Raises EngineError when llama.cpp refuses it.
    """
    backend.batch.clear()
    backend.batch.add(array("i", [0]), 0, 1, 0, True)
    code = backend.decode()
    if code != 0:
        raise EngineError(f"the start-up proof failed: llama_decode gave {code}")
    backend.trim(0, 0)


def measure(model: Model, settings: EngineSettings, options: ContextOptions, report: Report) -> Knobs:
    """Times every combination that is not pinned; see the module's text."""
    combinations = _combinations(model, settings, options)
    depth = _depth(model, options, len(combinations))
    trial_options = replace(
        options, ctx_len=depth + max(SLICES) + 8, kv_cells=options.n_seq * (depth + max(SLICES) + 8)
    )
    timings: dict[tuple[bool, bool], Timing] = {}
    for done, (flash, unified) in enumerate(combinations):
        trial = Trial(model, replace(trial_options, flash_attn=flash, kv_unified=unified))
        try:
            trial.fill(depth)
            timings[flash, unified] = Timing(
                trial.slice(depth, PROBE) / PROBE,
                trial.decode(depth, 1),
                trial.decode(depth, options.n_seq),
                options.n_seq,
            )
        finally:
            trial.close()
        report((done + 1) / (len(combinations) + 1))
    flash, unified = fastest(timings)
    trial = Trial(model, replace(trial_options, flash_attn=flash, kv_unified=unified))
    try:
        trial.fill(depth)
        threads, by_threads = _measure_threads(trial, settings, depth)
        trial.backend.set_threads(threads)
        step = trial.decode(depth, options.n_seq)
        sizes = (
            [settings.slice_size] if settings.slice_size else [size for size in SLICES if size <= options.batch_size]
        )
        slices = {size: trial.slice(depth, min(size, options.batch_size)) for size in sizes}
    finally:
        trial.close()
    report(1.0)
    measurements = {"depth": float(depth)}
    for (fa, kvu), timing in timings.items():
        name = f"flash_attn={int(fa)} kv_unified={int(kvu)}"
        measurements[f"{name}: prompt token"] = round(timing.prompt_token, 3)
        measurements[f"{name}: decode 1"] = round(timing.decode_one, 3)
        measurements[f"{name}: decode {timing.n_seq}"] = round(timing.decode_all, 3)
    measurements |= {f"cpu_threads={count}: decode": round(ms, 3) for count, ms in by_threads.items()}
    measurements |= {f"slice of {size}": round(ms, 3) for size, ms in slices.items()}
    size = best_slice(slices, step)
    measurements["slice_ms"] = round(slices[size], 3)
    return Knobs(
        flash_attn=flash,
        kv_unified=unified,
        slice_size=size,
        cpu_threads=threads,
        source="measured",
        measurements=measurements,
    )


def _combinations(model: Model, settings: EngineSettings, options: ContextOptions) -> list[tuple[bool, bool]]:
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
    trial = Trial(model, replace(options, ctx_len=128, kv_cells=128, n_seq=1, kv_unified=True))
    try:
        trial.step([(0, 0, 1)])
        token_ms = trial.step([(0, 1, 64)]) / 64
    finally:
        trial.close()
    for depth in DEPTHS:
        if depth * token_ms * (combinations + 1) <= BUDGET * 1e3 and depth + max(SLICES) + 8 <= options.ctx_len:
            return depth
    return min(DEPTHS[-1], max(1, options.ctx_len - max(SLICES) - 8))


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


def _measure_threads(trial: Trial, settings: EngineSettings, depth: int) -> tuple[int, dict[int, float]]:
    times = {}
    candidates = thread_candidates(settings)
    if len(candidates) == 1:
        return candidates[0], {}
    for count in candidates:
        trial.backend.set_threads(count)
        times[count] = trial.decode(depth, trial.n_seq)
    return min(times, key=lambda count: times[count]), times


# --- remembering --------------------------------------------------------------------------------------------------


def _fingerprint(model: Model, settings: EngineSettings, options: ContextOptions) -> str:
    """What the measurement depends on: machine, library, model and settings."""
    facts: dict[str, Any] = {
        "format": FORMAT,
        "llama": LLAMA_VERSION,
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "model": [model.description, model.size_bytes, model.n_params],
        "settings": asdict(replace(settings, queue_limit=0, start_timeout=0.0)),
        "n_seq": options.n_seq,
        "ctx_len": options.ctx_len,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        import platform

        return f"{platform.machine()} {platform.processor()}"


def _recall(cache_file: Path, fingerprint: str) -> Knobs | None:
    try:
        entry = json.loads(cache_file.read_text())[fingerprint]
        return replace(Knobs(**entry), source="remembered")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        if not isinstance(error, KeyError):
            log.warning("%s cannot be used (%s): measuring again", cache_file, error)
        return None


def _remember(cache_file: Path, fingerprint: str, knobs: Knobs) -> None:
    """Adds the entry; a cache that cannot be written costs a measurement at the next start, not this one."""
    try:
        entries = json.loads(cache_file.read_text())
    except (OSError, ValueError):
        entries = {}
    entries[fingerprint] = asdict(knobs)
    try:
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache_file.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(entries, indent=1))
        temporary.replace(cache_file)
    except OSError as error:
        log.warning("the measured knobs cannot be remembered in %s: %s", cache_file, error)
