#!/usr/bin/env bash
# llguidance 1.9.1: a document that its JSON Schema constraint admits can break the schema once it is parsed.
#
# Objects are open by default, and the constraint tells declared properties from other keys by their *spelling*. A key
# with an escape ("\u0061ge") is "another key", so its value is free; every JSON parser reads it as "age". Required
# properties do not help: the real one is written first, and the escaped one replaces it in the parser. Repeated other
# keys count twice for minProperties in the same way. Each document below is taken to its end by the matcher and
# refused by jsonschema. With additionalProperties false, the escaped key is not taken.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "llguidance==1.9.1" "jsonschema==4.26.0" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import json

from jsonschema import Draft202012Validator
from llguidance import LLMatcher, LLTokenizer

tokenizer = LLTokenizer("byte")  # a token a byte
AGE = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
CASES = [
    ("plain spelling", AGE, '{"age": 1, "age": "old"}'),
    ("escaped spelling", AGE, r'{"age": 1, "\u0061ge": "old"}'),
    ("escaped, closed object", AGE | {"additionalProperties": False}, r'{"age": 1, "\u0061ge": "old"}'),
    ("one key twice", {"type": "object", "minProperties": 2}, '{"a": 1, "a": 2}'),
]
for name, schema, document in CASES:
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(schema), log_level=0)
    taken = matcher.try_consume_tokens(list(document.encode())) == len(document) and matcher.is_accepting()
    value = json.loads(document)
    print(f"{name}: llguidance takes {document}: {taken}")
    print(f"  parsed: {value}, valid: {Draft202012Validator(schema).is_valid(value)}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
plain spelling: llguidance takes {"age": 1, "age": "old"}: False
  parsed: {'age': 'old'}, valid: False
escaped spelling: llguidance takes {"age": 1, "\u0061ge": "old"}: True
  parsed: {'age': 'old'}, valid: False
escaped, closed object: llguidance takes {"age": 1, "\u0061ge": "old"}: False
  parsed: {'age': 'old'}, valid: False
one key twice: llguidance takes {"a": 1, "a": 2}: True
  parsed: {'a': 2}, valid: False
SEEN
