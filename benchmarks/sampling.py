"""Microseconds a token for sampling: this project's sampler beside llama.cpp's, in one run, on the same rows.

llama.cpp's side is what its server does for a token: fill the vocabulary's records, apply the chain. Its records are
filled by NumPy in two block copies, which is faster than its own loop; beside it stands the ratio with one of the two
copies, the logits alone, which no caller could do with (the chain leaves the records in another order). Rows are
Gaussian logits and take turns, so that none is in the nearest caches because it was just sampled. Figures are medians
of rounds in which all sides alternate.

    python -m benchmarks.sampling [--quick]        without a file; python -m benchmarks sampling writes one
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row
from janflask_ext.sampling import Sampler, kernel

VOCABULARIES = (49_152, 128_256, 262_144)
N_ROWS = 8
DEVIATION = 3.0  # of the logits: the largest ends up some 13 above the mean, as in small chat models
RECORD = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

Draw = Callable[[int], object]  # draws a token from the row of that index


class LlamaChain:
    """llama.cpp's own sampler chain over records filled from the rows."""

    def __init__(self, rows: list[NDArray[np.float32]], samplers: list[Any]) -> None:
        n_vocab = len(rows[0])
        self.rows = rows
        self.template = np.zeros(n_vocab, RECORD)
        self.template["id"] = np.arange(n_vocab)
        self.records = self.template.copy()
        self.logits = self.records["logit"]
        self.bytes, self.template_bytes = self.records.view(np.uint8), self.template.view(np.uint8)
        self.chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for sampler in samplers:
            llama_cpp.llama_sampler_chain_add(self.chain, sampler)
        data = self.records.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
        self.array = llama_cpp.llama_token_data_array(data=data, size=n_vocab, selected=-1, sorted=False)
        self.n_vocab = n_vocab

    def draw(self, index: int) -> int:
        np.copyto(self.bytes, self.template_bytes)
        return self.draw_logits_only(index)

    def draw_logits_only(self, index: int) -> int:
        """With the ids as the last draw left them: the cost is a real draw's, the token is not."""
        np.copyto(self.logits, self.rows[index])
        self.array.size = self.n_vocab
        self.array.sorted = False
        llama_cpp.llama_sampler_apply(self.chain, ctypes.byref(self.array))
        return int(self.records["id"][self.array.selected])

    def close(self) -> None:
        llama_cpp.llama_sampler_free(self.chain)


def default_samplers() -> list[Any]:
    return [
        llama_cpp.llama_sampler_init_top_k(40),
        llama_cpp.llama_sampler_init_top_p(0.95, 0),
        llama_cpp.llama_sampler_init_min_p(0.05, 0),
        llama_cpp.llama_sampler_init_temp_ext(0.8, 0.0, 1.0),
        llama_cpp.llama_sampler_init_dist(1),
    ]


def nucleus_samplers() -> list[Any]:
    return [
        llama_cpp.llama_sampler_init_top_p(0.95, 0),
        llama_cpp.llama_sampler_init_temp_ext(0.8, 0.0, 1.0),
        llama_cpp.llama_sampler_init_dist(1),
    ]


CHAINS: dict[str, tuple[dict[str, Any], Callable[[], list[Any]], float]] = {
    "default chain": ({}, default_samplers, 5.0),
    "temperature + top-p": ({"top_k": 0, "min_p": 0.0}, nucleus_samplers, 20.0),
}
EXTRAS: dict[str, dict[str, Any]] = {
    "64-token penalties": {"repeat_penalty": 1.1, "frequency_penalty": 0.1, "presence_penalty": 0.1},
    "20 log-probabilities": {"top_logprobs": 20},
}
MOST_FOR_EXTRAS = 1.5  # times the plain draw


def our_draw(rows: list[NDArray[np.float32]], settings: dict[str, Any]) -> Draw:
    """A sampler with the 64 likeliest tokens of the rows in its history, as a text that repeats itself would have."""
    sampler = Sampler(len(rows[0]), seed=1, **settings)
    best = [np.argsort(row)[-64 // len(rows) :] for row in rows]
    sampler.prime(np.concatenate(best).astype(np.int32))
    addresses = [row.ctypes.data for row in rows]
    return lambda index: sampler.sample_at(addresses[index])


def measure(draws: dict[str, Draw], rounds: int) -> dict[str, float]:
    """Median microseconds of a draw, each side's rounds between the others'."""
    times: dict[str, list[float]] = {name: [] for name in draws}
    for _ in range(rounds):
        for name, draw in draws.items():
            start = time.perf_counter_ns()
            for index in range(N_ROWS):
                draw(index)
            times[name].append((time.perf_counter_ns() - start) / N_ROWS / 1000)
    return {name: statistics.median(samples) for name, samples in times.items()}


def bench_chain(name: str, n_vocab: int, rounds: int) -> list[Row]:
    """One chain on one vocabulary: beside llama.cpp's, and what each extra adds to it."""
    settings, llama_samplers, least = CHAINS[name]
    rng = np.random.default_rng(n_vocab)
    rows = [(rng.standard_normal(n_vocab) * DEVIATION).astype(np.float32) for _ in range(N_ROWS)]
    llama = LlamaChain(rows, llama_samplers())
    ours: dict[str, Draw] = {"plain": our_draw(rows, settings)}
    for extra, more in EXTRAS.items():
        ours[extra] = our_draw(rows, settings | more)
    sides = {"plain": ours["plain"], "llama": llama.draw, "logits": llama.draw_logits_only}
    try:
        beside = measure(sides, max(rounds // 10, 5))
    finally:
        llama.close()
    times = measure(ours, rounds)
    title = f"{name}, {n_vocab:,}"
    return [
        beside_llama(f"{title}: llama.cpp's time to ours", beside, least),
        *(beside_plain(f"{title}: {extra} to plain", times[extra], times["plain"]) for extra in EXTRAS),
    ]


def beside_llama(name: str, times: dict[str, float], least: float) -> Row:
    ours, theirs = times["plain"], times["llama"]
    detail = {
        "kernel": kernel(),
        "us": round(ours, 1),
        "llama.cpp us": round(theirs, 1),
        "with logits copied alone": round(times["logits"] / ours, 2),
    }
    return Row(name, theirs / ours, least, "x", at_least=True, detail=detail)


def beside_plain(name: str, cost: float, plain: float) -> Row:
    detail = {"kernel": kernel(), "us": round(cost, 1), "plain us": round(plain, 1)}
    return Row(name, cost / plain, MOST_FOR_EXTRAS, "x", at_least=False, detail=detail)


def run(rounds: int = 300) -> list[Row]:
    """All chains on all vocabularies, measured now."""
    return [row for name in CHAINS for n_vocab in VOCABULARIES for row in bench_chain(name, n_vocab, rounds)]


def main(argv: list[str] | None = None) -> int:
    """Prints the rows; returns 0 if every target is met."""
    parser = argparse.ArgumentParser(description="Microseconds a token for sampling, beside llama.cpp's.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rows = run(50 if parser.parse_args(argv).quick else 300)
    for row in rows:
        print(row.line())
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
