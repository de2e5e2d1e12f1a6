"""llama-cpp-python's own ``Llama`` answers conversations, in a process of its own: JSON from stdin, JSON to stdout."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from llama_cpp import Llama, llama_get_logits_ith, llama_model_get_vocab, llama_vocab_is_eog
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

TOP = 5


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
        verbose=False,
    )
    layout = Jinja2ChatFormatter(llama.metadata["tokenizer.chat_template"], eos_token="", bos_token="")
    json.dump([answer(llama, layout, messages, job["max_tokens"]) for messages in job["conversations"]], sys.stdout)


def answer(llama: Llama, layout: Jinja2ChatFormatter, messages: Any, max_tokens: int) -> dict[str, Any]:
    prompt = llama.tokenize(layout(messages=messages).prompt.encode(), add_bos=False, special=True)
    vocab = llama_model_get_vocab(llama.model)
    tokens: list[int] = []
    steps = []
    llama.reset()
    for token in llama.generate(prompt, temp=0.0):
        if llama_vocab_is_eog(vocab, token):
            break
        tokens.append(token)
        steps.append(step(llama, token))
        if len(tokens) == max_tokens:
            break
    return {
        "text": llama.detokenize(tokens).decode("utf-8", "replace"),
        "steps": steps,
        "finish_reason": "length" if len(tokens) == max_tokens else "stop",
        "prompt_tokens": len(prompt),
    }


def step(llama: Llama, token: int) -> dict[str, Any]:
    """The token that was just chosen, and the likeliest ones there."""
    logits = np.ctypeslib.as_array(llama_get_logits_ith(llama.ctx, -1), (llama.n_vocab(),)).astype(np.float64)
    logprobs = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
    top = np.argsort(-logprobs)[:TOP].tolist()
    return {
        "token": text(llama, token),
        "logprob": float(logprobs[token]),
        "top": {text(llama, candidate): float(logprobs[candidate]) for candidate in top},
    }


def text(llama: Llama, token: int) -> str:
    return llama.detokenize([token], special=True).decode("utf-8", "replace")


if __name__ == "__main__":
    main()
