#!/usr/bin/env bash
# llama.cpp (as llama-cpp-python 0.3.36 vendors it): on a recurrent model, removing tokens in front or middle "succeeds" and removes nothing.
#
# llama_memory_seq_rm returns whether it could remove the positions. A recurrent state (here: Mamba) cannot give tokens back,
# and for a sequence's tail the function says so (false). For positions in front or in the middle it says true, and the
# state is what it was: the next logits are those of the whole text, to the bit. In the same way llama_memory_seq_cp of the
# first half copies everything. (Cutting old tokens away is how clients shift a context that is full.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "llama-cpp-python==0.3.36" "gguf==0.19.0" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import ctypes
import sys

import llama_cpp as llama
import numpy as np
from gguf import GGUFWriter, TokenType

VOCABULARY, WIDTH, INNER, STATE, KERNEL, RANK = 64, 64, 128, 16, 4, 4


def write_model(path):
    """A Mamba of one layer with random weights."""
    draw = np.random.default_rng(1)

    def matrix(*shape):
        return (draw.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    writer = GGUFWriter(path, "mamba")
    writer.add_context_length(1024)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(1)
    writer.add_ssm_conv_kernel(KERNEL)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"<{number}>" for number in range(VOCABULARY)])
    writer.add_token_types([TokenType.NORMAL] * VOCABULARY)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    tensors = {
        "token_embd.weight": matrix(VOCABULARY, WIDTH),
        "output_norm.weight": np.ones(WIDTH, np.float32),
        "blk.0.attn_norm.weight": np.ones(WIDTH, np.float32),
        "blk.0.ssm_in.weight": matrix(2 * INNER, WIDTH),
        "blk.0.ssm_conv1d.weight": matrix(INNER, KERNEL),
        "blk.0.ssm_conv1d.bias": matrix(INNER),
        "blk.0.ssm_x.weight": matrix(RANK + 2 * STATE, INNER),
        "blk.0.ssm_dt.weight": matrix(INNER, RANK),
        "blk.0.ssm_dt.bias": matrix(INNER),
        "blk.0.ssm_a": -np.abs(matrix(INNER, STATE)),
        "blk.0.ssm_d": matrix(INNER),
        "blk.0.ssm_out.weight": matrix(WIDTH, INNER),
    }
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


quiet = llama.llama_log_callback(lambda *_: None)
llama.llama_log_set(quiet, ctypes.c_void_p(0))
path = f"{sys.argv[1]}/mamba.gguf"
write_model(path)
parameters = llama.llama_model_default_params()
parameters.use_extra_bufts = False
model = llama.llama_model_load_from_file(path.encode(), parameters)
parameters = llama.llama_context_default_params()
parameters.n_ctx, parameters.n_seq_max = 256, 2
context = llama.llama_init_from_model(model, parameters)
memory = llama.llama_get_memory(context)


def logits(tokens, position, sequence):
    batch = llama.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, position + i, 1, sequence
        batch.logits[i] = i == len(tokens) - 1
    if llama.llama_decode(context, batch):
        raise RuntimeError("not decoded")
    llama.llama_batch_free(batch)
    return np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (VOCABULARY,)).copy()


def begin():
    """Eight tokens in sequence 0, and nothing else."""
    llama.llama_memory_clear(memory, True)
    logits(range(1, 9), 0, 0)


begin()
whole = logits([9], 8, 0)
llama.llama_memory_clear(memory, True)
logits(range(5, 9), 0, 0)
print("the last four tokens alone give the same logits as all eight:", np.array_equal(logits([9], 4, 0), whole))
for part, (first, end) in {"front": (0, 4), "middle": (2, 6), "tail": (6, -1)}.items():
    begin()
    said = llama.llama_memory_seq_rm(memory, 0, first, end)
    print(f"remove the {part}: returns {said}, next logits as if nothing was removed: {np.array_equal(logits([9], 8, 0), whole)}")
begin()
llama.llama_memory_seq_cp(memory, 0, 1, 0, 4)
last = llama.llama_memory_seq_pos_max(memory, 1)
print(f"copy positions 0 to 3: the copy's last position is {last}, its logits those of all eight: {np.array_equal(logits([9], 8, 1), whole)}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
the last four tokens alone give the same logits as all eight: False
remove the front: returns True, next logits as if nothing was removed: True
remove the middle: returns True, next logits as if nothing was removed: True
remove the tail: returns False, next logits as if nothing was removed: True
copy positions 0 to 3: the copy's last position is 7, its logits those of all eight: True
SEEN
