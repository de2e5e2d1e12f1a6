#!/usr/bin/env bash
# llguidance 1.9.1: under the schema of a dictionary the same key may come again and again, and what it stood for is lost.
#
# pydantic's dict[str, int] is an object with additionalProperties. The grammar holds the values and not the keys:
# {"a": 1, "a": 2} is allowed, ends properly, and whoever parses it has one entry of two. jsonschema cannot notice: it sees what
# the parser left over. Keys that are named in "properties" come once; with a pattern for the keys (patternProperties)
# they come twice as well.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "llguidance==1.9.1" "pydantic==2.12.5" "jsonschema==4.26.0" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import json

from jsonschema import Draft202012Validator
from llguidance import LLMatcher, LLTokenizer
from pydantic import BaseModel, TypeAdapter

tokenizer = LLTokenizer("byte")


def held(schema, text):
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(schema), log_level=0)
    taken = matcher.try_consume_tokens(list(text.encode()))
    return not matcher.is_error() and taken == len(text.encode()) and matcher.is_accepting()


class Point(BaseModel):
    a: int


PATTERN = {"type": "object", "patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": False}
TEXT = '{"a": 1, "a": 2}'
for name, schema in (
    ("dict[str, int]", TypeAdapter(dict[str, int]).json_schema()),
    ("patternProperties", PATTERN),
    ("properties", Point.model_json_schema() | {"additionalProperties": False}),
):
    found = json.loads(TEXT)
    print(f"{name}: llguidance lets it pass: {held(schema, TEXT)}, jsonschema finds {found} valid: {Draft202012Validator(schema).is_valid(found)}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
dict[str, int]: llguidance lets it pass: True, jsonschema finds {'a': 2} valid: True
patternProperties: llguidance lets it pass: True, jsonschema finds {'a': 2} valid: True
properties: llguidance lets it pass: False, jsonschema finds {'a': 2} valid: True
SEEN
