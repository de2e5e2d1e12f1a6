"""llama-cpp-python's own ``Llama`` answers conversations, in a process of its own: JSON from stdin, JSON to stdout."""

from __future__ import annotations

import json
import sys

from llama_cpp import Llama


def main() -> None:
    job = json.load(sys.stdin)
    llama = Llama(
        job["model_path"],
        n_ctx=1024,
        n_batch=256,
        n_ubatch=256,
        n_threads=job["threads"],
        n_threads_batch=job["threads"],
        flash_attn=job["flash_attn"],
        logits_all=True,  # it tells log-probabilities only so
        verbose=False,
    )
    answers = []
    for messages in job["conversations"]:
        llama.reset()
        answers.append(
            llama.create_chat_completion(  # lays the conversation out by the GGUF's own chat template
                messages, temperature=0, max_tokens=job["max_tokens"], logprobs=True, top_logprobs=5
            )
        )
    json.dump(answers, sys.stdout, default=float)  # NumPy numbers among them


if __name__ == "__main__":
    main()
