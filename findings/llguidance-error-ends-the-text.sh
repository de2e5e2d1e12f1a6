#!/usr/bin/env bash
# llguidance 1.9.1: a matcher whose constraint cannot be used behaves like one whose text is complete.
#
# A constraint that fails (a schema that nothing can meet, a keyword that is not implemented, a pattern with look-ahead)
# raises nothing: the matcher is made, its mask allows exactly the end token, and taking that token *succeeds*. A sampling loop
# that only asks for masks and passes tokens on gets an empty answer with an ordinary end. Without an error the end
# token is refused at the start, as it should be. Only is_error() (and is_accepting(), false) tells the two apart.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "llguidance==1.9.1" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
from llguidance import LLMatcher, LLTokenizer

tokenizer = LLTokenizer("byte")
schema = LLMatcher.grammar_from_json_schema
CONSTRAINTS = {
    "a string": schema({"type": "string"}),
    "minLength above maxLength": schema({"type": "string", "minLength": 5, "maxLength": 2}),
    "uniqueItems": schema({"type": "array", "uniqueItems": True}),
    "look-ahead": schema({"type": "string", "pattern": "^(?=a).*$"}),
}
for name, constraint in CONSTRAINTS.items():
    matcher = LLMatcher(tokenizer, constraint, log_level=0)
    mask = matcher.compute_bitmask()
    allowed = [token for token in range(tokenizer.vocab_size) if mask[token // 8] >> token % 8 & 1]
    print(f"{name}: is_error {matcher.is_error()}")
    print("  the mask allows the end token:", tokenizer.eos_token in allowed, "| other tokens:", len(set(allowed) - {tokenizer.eos_token}))
    print("  the end token is taken:", matcher.consume_token(tokenizer.eos_token), "| accepting:", matcher.is_accepting())
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
a string: is_error False
  the mask allows the end token: False | other tokens: 1
  the end token is taken: False | accepting: False
minLength above maxLength: is_error True
  the mask allows the end token: True | other tokens: 0
  the end token is taken: True | accepting: False
uniqueItems: is_error True
  the mask allows the end token: True | other tokens: 0
  the end token is taken: True | accepting: False
look-ahead: is_error True
  the mask allows the end token: True | other tokens: 0
  the end token is taken: True | accepting: False
SEEN
