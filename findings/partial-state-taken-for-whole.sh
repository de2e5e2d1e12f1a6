#!/usr/bin/env bash
# llama.cpp (as llama-cpp-python 0.3.36 vendors it): a partial state is taken for a whole one, and answers go on from half a memory.
#
# llama_state_seq_get_data_ext with LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY gives a checkpoint: of a model with a sliding window the
# window's layers alone. Put into an empty sequence it is taken (all its bytes), the positions are those that a whole
# state of such a model has (the window's), the next decode returns 0, and its logits are wrong: the other layers hold nothing.
# Of plain attention a "partial" state is the whole one, at its full size. So neither size, nor return value, nor positions tell
# whether a sequence can be gone on with.
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

VOCABULARY, WIDTH, HEADS, HEAD, INNER, LAYERS, WINDOW = 64, 64, 4, 16, 96, 2, 32
PARTIAL_ONLY = 1
TOKENS = [1 + 7 * i % (VOCABULARY - 1) for i in range(121)]


def write_model(path, window):
    """A Gemma 3 of two layers with random weights, the first of them with a window; or none, a Llama."""
    draw = np.random.default_rng(1)

    def matrix(rows, columns):
        return (draw.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    writer = GGUFWriter(path, "gemma3" if window else "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_block_count(LAYERS)
    writer.add_layer_norm_rms_eps(1e-6)
    if window:
        writer.add_sliding_window(WINDOW)
        writer.add_sliding_window_pattern(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"<{number}>" for number in range(VOCABULARY)])
    writer.add_token_types([TokenType.NORMAL] * VOCABULARY)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    tensors = {"token_embd.weight": matrix(VOCABULARY, WIDTH), "output_norm.weight": np.ones(WIDTH, np.float32)}
    for layer in range(LAYERS):
        block = {
            "attn_norm": np.ones(WIDTH, np.float32),
            "attn_q": matrix(HEADS * HEAD, WIDTH),
            "attn_k": matrix(HEAD, WIDTH),
            "attn_v": matrix(HEAD, WIDTH),
            "attn_output": matrix(WIDTH, HEADS * HEAD),
            "ffn_norm": np.ones(WIDTH, np.float32),
            "ffn_gate": matrix(INNER, WIDTH),
            "ffn_up": matrix(INNER, WIDTH),
            "ffn_down": matrix(WIDTH, INNER),
        }
        if window:
            block |= {name: np.ones(HEAD, np.float32) for name in ("attn_q_norm", "attn_k_norm")}
            block |= {name: np.ones(WIDTH, np.float32) for name in ("post_attention_norm", "post_ffw_norm")}
        tensors |= {f"blk.{layer}.{name}.weight": tensor for name, tensor in block.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Context:
    """A context with two sequences."""

    def __init__(self, path):
        self.model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
        parameters = llama.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max, parameters.swa_full, parameters.flash_attn_type = 1024, 2, False, 0
        self.pointer = llama.llama_init_from_model(self.model, parameters)
        self.memory = llama.llama_get_memory(self.pointer)

    def decode(self, sequence, start, end):
        """Decodes TOKENS[start:end]; the logits behind the last one."""
        batch = llama.llama_batch_init(end - start, 0, 1)
        batch.n_tokens = end - start
        for i, position in enumerate(range(start, end)):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = TOKENS[position], position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, position == end - 1
        assert llama.llama_decode(self.pointer, batch) == 0
        llama.llama_batch_free(batch)
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(self.pointer, -1), (VOCABULARY,)).copy()

    def state(self, flags):
        """Sequence 0's state."""
        size = llama.llama_state_seq_get_size_ext(self.pointer, 0, flags)
        state = (ctypes.c_uint8 * size)()
        assert llama.llama_state_seq_get_data_ext(self.pointer, state, size, 0, flags) == size
        return state

    def put(self, sequence, state, flags):
        """Whether all of it was taken."""
        return llama.llama_state_seq_set_data_ext(self.pointer, state, len(state), sequence, flags) == len(state)

    def positions(self, sequence):
        """The first and the last."""
        return llama.llama_memory_seq_pos_min(self.memory, sequence), llama.llama_memory_seq_pos_max(self.memory, sequence)


quiet = llama.llama_log_callback(lambda *_: None)
llama.llama_log_set(quiet, ctypes.c_void_p(0))
for window in (False, True):
    write_model(sys.argv[1], window)
    context = Context(sys.argv[1])
    context.decode(0, 0, 120)
    whole, partial = context.state(0), context.state(PARTIAL_ONLY)
    right = context.decode(0, 120, 121)
    print("sliding window:" if window else "plain attention:")
    print("  a partial state is", "as large as a whole one" if len(partial) == len(whole) else "smaller than a whole one")
    taken = context.put(1, partial, PARTIAL_ONLY)
    print(f"  put into an empty sequence: taken {taken}, positions {context.positions(1)}")
    print("  the next token's logits are", "right" if np.allclose(right, context.decode(1, 120, 121), atol=1e-3) else "wrong")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/model.gguf" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
plain attention:
  a partial state is as large as a whole one
  put into an empty sequence: taken True, positions (0, 119)
  the next token's logits are right
sliding window:
  a partial state is smaller than a whole one
  put into an empty sequence: taken True, positions (88, 119)
  the next token's logits are wrong
SEEN
