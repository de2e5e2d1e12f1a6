"""The best a server could do: a bare ``llama_decode`` loop over the same library, prompts and token counts.

No HTTP, no queue, no text: prompts in as few batches as llama.cpp takes, then one decode a step with a greedy choice.
``python -m benchmarks.bare`` answers rounds on stdin so that it can be measured alternately with a server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import IO, Any

from benchmarks.harness import ROOT, random_tokens

COMBINATIONS = list(product([False, True], [False, True]))  # flash attention, unified KV


class BareLoop:
    """One context over the model."""

    def __init__(
        self, model: Any, *, flash_attn: bool, kv_unified: bool, ctx_len: int, n_seq: int, threads: int
    ) -> None:
        from janflask.engine.context import ContextOptions, LlamaContext

        self.context = LlamaContext(
            model,
            ContextOptions(
                ctx_len=ctx_len,
                n_seq=n_seq,
                kv_cells=ctx_len * n_seq,
                flash_attn=flash_attn,
                kv_unified=kv_unified,
                cpu_threads=threads,
                batch_size=512,
            ),
        )
        self.model = model

    def run(self, prompts: list[list[int]], new_tokens: int) -> float:
        """Seconds for the prompts and ``new_tokens`` each."""
        from janflask_ext.sampling import Sampler

        context = self.context
        tokens = [array("i", prompt) for prompt in prompts]
        samplers = [Sampler(self.model.n_vocab, temperature=0.0, seed=0, n_ctx=context.ctx_len) for _ in prompts]
        started = time.perf_counter()
        for slot, sequence in enumerate(tokens):
            sequence.append(context.sample([self._prefill(slot, sequence)], [samplers[slot]])[0])
        for _ in range(new_tokens - 1):
            context.batch.clear()
            rows = [context.batch.add(seq, len(seq) - 1, 1, slot, True) for slot, seq in enumerate(tokens)]
            self._decode()
            for sequence, token in zip(tokens, context.sample(rows, samplers), strict=True):
                sequence.append(token)
        elapsed = time.perf_counter() - started
        for slot in range(len(prompts)):
            context.trim(slot, 0)
        return elapsed

    def _prefill(self, slot: int, tokens: array[int]) -> int:
        """Computes a prompt; returns the row of its logits."""
        batch = self.context.batch
        row = -1
        for start in range(0, len(tokens), 512):
            count = min(512, len(tokens) - start)
            batch.clear()
            row = batch.add(tokens, start, count, slot, start + count == len(tokens))
            self._decode()
        return row

    def _decode(self) -> None:
        code = self.context.decode()
        if code != 0:
            raise RuntimeError(f"llama_decode gave {code}")

    def close(self) -> None:
        self.context.close()


def main() -> None:
    """Reads rounds as JSON lines, answers with tokens/s of every combination."""
    from janflask.engine.cores import usable_cores
    from janflask.engine.library_log import LibraryLog
    from janflask.engine.model import Model
    from janflask.models.engine_settings import EngineSettings

    model = Model(Path(sys.argv[1]), EngineSettings(), LibraryLog(), lambda fraction: None)
    for line in sys.stdin:
        order = json.loads(line)
        prompts = [random_tokens(order["prompt_tokens"], order["seed"] * 100 + i) for i in range(order["clients"])]
        answer = {}
        for flash, unified in COMBINATIONS:
            loop = BareLoop(
                model,
                flash_attn=flash,
                kv_unified=unified,
                ctx_len=order["prompt_tokens"] + order["new_tokens"] + 8,
                n_seq=order["clients"],
                threads=usable_cores(),
            )
            loop.run([prompt[:16] for prompt in prompts], 2)  # warm
            seconds = loop.run(prompts, order["new_tokens"])
            loop.close()
            answer[f"flash_attn={int(flash)} kv_unified={int(unified)}"] = (
                order["clients"] * order["new_tokens"] / seconds
            )
        print(json.dumps(answer), flush=True)


class BareProcess:
    """The bare loop in a process of its own, idle between rounds."""

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin = stdin
        self._stdout = stdout

    def measure(self, *, clients: int, prompt_tokens: int, new_tokens: int, seed: int) -> dict[str, float]:
        """Tokens/s of every combination in one round."""
        order = {"clients": clients, "prompt_tokens": prompt_tokens, "new_tokens": new_tokens, "seed": seed}
        self._stdin.write(json.dumps(order) + "\n")
        self._stdin.flush()
        answer: dict[str, float] = json.loads(self._stdout.readline())
        return answer


@contextmanager
def bare_process(model: Path) -> Iterator[BareProcess]:
    """Starts it, ends it."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bare", str(model)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        yield BareProcess(process.stdin, process.stdout)
        process.stdin.close()


if __name__ == "__main__":
    main()
