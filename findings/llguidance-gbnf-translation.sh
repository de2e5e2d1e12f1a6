#!/usr/bin/env bash
# llguidance 1.9.1: the GBNF translation that it ships changes what a grammar means.
#
# llguidance.gbnf_to_lark is there to take over llama.cpp's grammars. An escape \u0041 in a literal comes out as \u41, which
# Lark does not read: a grammar that llama.cpp takes is an error. A dot becomes /./, which is anything but a line break,
# while llama.cpp's matches that, too: the text below is one of the grammar's, and is refused.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "llguidance==1.9.1" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
from llguidance import LLMatcher, LLTokenizer
from llguidance.gbnf_to_lark import gbnf_to_lark

tokenizer = LLTokenizer("byte")

for grammar, text in ((r'root ::= "\u0041"', "A"), ('root ::= "A"', "A"), ("root ::= .", "x"), ("root ::= .", "\n")):
    lark = gbnf_to_lark(grammar)
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(lark), log_level=0)
    fine = not matcher.is_error()
    taken = fine and matcher.try_consume_tokens(list(text.encode())) == len(text) and matcher.is_accepting()
    print(f"{grammar} -> {lark.strip().splitlines()[-1]}: usable {fine}, takes {text!r}: {taken}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
root ::= "\u0041" -> start: "\u41": usable False, takes 'A': False
root ::= "A" -> start: "A": usable True, takes 'A': True
root ::= . -> start: /./: usable True, takes 'x': True
root ::= . -> start: /./: usable True, takes '\n': False
SEEN
