#!/usr/bin/env bash
# llama.cpp (as llama-cpp-python 0.3.36 vendors it): a token's *name* can make it an end of generation and take its text away.
#
# A GGUF gives every token a type and names its end token by `tokenizer.ggml.eos_token_id`. The loader goes by a list of
# names besides: an ordinary (NORMAL) token called `</s>`, `<reponame>` or `[EOS]` becomes a control token that ends
# generation, and its text comes out empty. HTML's `</s>` (the end of struck-out text) is such a token in Gemma 3.
# Whether it happens depends on the rest of the vocabulary, too: where a token `<|tool_response>` exists, `</s>` is left
# in peace, and `<|end|>` ends a text unless both `<|return|>` and `<|call|>` exist. Neighbours of the same kind
# (`</b>`, `<file_sep>`, `<repo_name>`) stay what the file says.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "llama-cpp-python==0.3.36" "gguf==0.19.0" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import ctypes
import sys

import llama_cpp as llama
from gguf import GGUFWriter, TokenType

WATCHED = ["</s>", "<reponame>", "[EOS]", "<|end|>", "</b>", "<file_sep>", "<repo_name>"]


def show(title, others):
    """Loads a vocabulary of one declared end token and otherwise NORMAL ones, and says what became of them."""
    path, tokens = f"{sys.argv[1]}/vocabulary.gguf", ["<end-as-declared>", *WATCHED, *others, *map(chr, range(33, 127))]
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] + [TokenType.NORMAL] * (len(tokens) - 1))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parameters = llama.llama_model_default_params()
    parameters.vocab_only = True
    model = llama.llama_model_load_from_file(path.encode(), parameters)
    vocabulary = llama.llama_model_get_vocab(model)
    print(title)
    for token, name in enumerate(tokens[: 1 + len(WATCHED)]):
        text = ctypes.create_string_buffer(64)
        length = llama.llama_token_to_piece(vocabulary, token, text, 64, 0, False)
        end = "ends the text" if llama.llama_vocab_is_eog(vocabulary, token) else "-"
        print(f"  {name:18}{end:15}text {text.raw[:length].decode()!r}")
    llama.llama_model_free(model)


quiet = llama.llama_log_callback(lambda *_: None)
llama.llama_log_set(quiet, ctypes.c_void_p(0))
show("by themselves", [])
show("with <|tool_response>", ["<|tool_response>"])
show("with <|return|> and <|call|>", ["<|return|>", "<|call|>"])
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
by themselves
  <end-as-declared> ends the text  text ''
  </s>              ends the text  text ''
  <reponame>        ends the text  text ''
  [EOS]             ends the text  text ''
  <|end|>           ends the text  text ''
  </b>              -              text '</b>'
  <file_sep>        -              text '<file_sep>'
  <repo_name>       -              text '<repo_name>'
with <|tool_response>
  <end-as-declared> ends the text  text ''
  </s>              -              text '</s>'
  <reponame>        ends the text  text ''
  [EOS]             ends the text  text ''
  <|end|>           ends the text  text ''
  </b>              -              text '</b>'
  <file_sep>        -              text '<file_sep>'
  <repo_name>       -              text '<repo_name>'
with <|return|> and <|call|>
  <end-as-declared> ends the text  text ''
  </s>              ends the text  text ''
  <reponame>        ends the text  text ''
  [EOS]             ends the text  text ''
  <|end|>           -              text '<|end|>'
  </b>              -              text '</b>'
  <file_sep>        -              text '<file_sep>'
  <repo_name>       -              text '<repo_name>'
SEEN
