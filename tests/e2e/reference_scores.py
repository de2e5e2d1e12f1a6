"""What llama-cpp-python's own logits say of given tokens, in a process of its own: JSON from stdin, JSON to stdout."""

from __future__ import annotations

import json
import sys

import numpy as np
from llama_cpp import Llama


def main() -> None:
    job = json.load(sys.stdin)
    llama = Llama(
        job["model_path"],
        n_ctx=512,
        n_threads=job["threads"],
        n_threads_batch=job["threads"],
        flash_attn=job["flash_attn"],
        logits_all=True,
        verbose=False,
    )
    json.dump([scores(llama, text, job["one_by_one"]) for text in job["texts"]], sys.stdout)


def scores(llama: Llama, text: str, one_by_one: int) -> dict[str, list[float] | list[int]]:
    """The text's tokens, each one's log-probability but the first's, and the likeliest token's at the same places.

    Texts of less than ``one_by_one`` tokens are computed so.
    """
    tokens = llama.tokenize(text.encode(), add_bos=False, special=True)
    llama.reset()
    step = 1 if len(tokens) < one_by_one else len(tokens)
    for start in range(0, len(tokens), step):
        llama.eval(tokens[start : start + step])
    rows = llama.scores[: len(tokens) - 1].astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    own = rows[np.arange(len(tokens) - 1), tokens[1:]]
    return {"tokens": tokens, "scores": own.tolist(), "best": rows.max(axis=1).tolist()}


if __name__ == "__main__":
    main()
