"""Drafts: answers that say what stands in their prompt, beside llama-server's; and answers that repeat nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from benchmarks.harness import ROOT, Server, Stream, in_turns, run_streams, serving
from benchmarks.llama_server import llama_server
from benchmarks.plain_text import LENGTH, passages
from benchmarks.report import Row

COPIED, PLAIN = 1.4, 0.98  # tokens/s: with drafts / llama-server's as it comes; with drafts / without
PASSAGES = 4  # of a prompt that is copied
NEW = 256  # tokens of a copy's answer, of which the copied passages are about four fifths
PLAIN_NEW = 192
ROUNDS = 5
CTX_LEN = 4096
FOUND = 60.0  # seconds of rest after which it must be known how many rows are exact


def drafts() -> list[Row]:
    """Greedy tokens/s of one client."""
    with serving(ctx_len=CTX_LEN, n_parallel=1) as ours:
        copies, plain = _copies(1), passages(2)
        _await_guesses(ours, next(copies))
        with llama_server(n_parallel=1, kv_cells=CTX_LEN) as theirs:
            texts = [next(copies) for _ in range(ROUNDS)]
            copied = _rates("a copied text, vs llama-server", ours, theirs, texts, NEW)
        accepted = ours.model()["stats"]
        with serving(checkout=ROOT, ctx_len=CTX_LEN, n_parallel=1, drafts=0, **ours.knobs()) as without:
            texts = [next(plain) for _ in range(2 * ROUNDS)]
            unrepeated = _rates("a text that repeats nothing, vs without drafts", ours, without, texts, PLAIN_NEW)
    detail = {name: accepted[name] for name in ("drafted_tokens", "accepted_tokens")}
    return [
        Row("tokens/s of a text that stands in its prompt, vs llama-server", copied, COPIED, "x", detail=detail),
        Row("tokens/s of a text that repeats nothing, vs without drafts", unrepeated, PLAIN, "x"),
    ]


def _copies(seed: int) -> Iterator[str]:
    """Prompts that hold a text, and its beginning once more: a model goes on with the rest."""
    pieces = passages(seed)
    while True:
        text = " ".join(next(pieces) for _ in range(PASSAGES))
        yield f"The text:\n\n{text}\n\nThe text once more, word for word:\n\n{text[: LENGTH // 2]}"


def _await_guesses(server: Server, text: str) -> None:
    """Rows are tried at rest, after the start."""
    deadline = time.monotonic() + FOUND
    while not server.model()["stats"]["drafted_tokens"]:
        if time.monotonic() > deadline:
            raise RuntimeError("nothing is guessed ahead: are no rows exact here?")
        time.sleep(1.0)
        run_streams(server.port, [Stream(text, NEW)])


def _rates(what: str, one: Server, other: Server, texts: list[str], new: int) -> float:
    """The median of the rounds' quotients."""

    def rate(server: Server, number: int) -> float:
        return new / run_streams(server.port, [Stream(texts[number], new)])

    for server in (one, other):
        run_streams(server.port, [Stream("Hello", 8)])  # warm
    pairs = in_turns(what, lambda number: rate(one, number), lambda number: rate(other, number), len(texts))
    return median(first / second for first, second in pairs)
