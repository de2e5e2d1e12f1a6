#!/usr/bin/env bash
# llguidance 1.9.1: under a JSON constraint no letter can be written as an escape, and a model that begins one is led astray.
#
# JSON allows \u00e9 for é, and Python's json.dumps writes it so by default: many models saw that in training. The grammar
# for {"type": "string"} knows \u only for control characters. What json.dumps makes of "é" is refused, and a model
# that has written \u00 can go on with 0, 1 or 7 alone: instead of the letter a control character stands in the answer.
# "json_allowed_escapes" without "u" takes the trap away: then the letter itself is all that can come.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "llguidance==1.9.1" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import json

from llguidance import LLMatcher, LLTokenizer

tokenizer = LLTokenizer("byte")  # a token a byte


def matcher(**options):
    schema = {"type": "string", "x-guidance": options}
    return LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(schema), log_level=0)


def taken(text, **options):
    held = matcher(**options)
    return held.try_consume_tokens(list(text.encode())) == len(text.encode()) and held.is_accepting()


def behind(text, **options):
    held = matcher(**options)
    held.consume_tokens(list(text.encode()))
    mask = held.compute_bitmask()
    return "".join(chr(token) for token in range(33, 127) if mask[token // 8] >> token % 8 & 1)


for text in (json.dumps("é"), json.dumps("é", ensure_ascii=False), json.dumps("\x01"), json.dumps("/")):
    print(f"{text} is taken: {taken(text)}")
print('behind "caf\\u00 may come:', behind('"caf\\u00'))
print('behind "caf\\ may come, without u:', behind('"caf\\', json_allowed_escapes='nrbtf\\"'))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
"\u00e9" is taken: False
"é" is taken: True
"\u0001" is taken: True
"/" is taken: True
behind "caf\u00 may come: 017
behind "caf\ may come, without u: "\bfnrt
SEEN
