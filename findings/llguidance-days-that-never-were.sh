#!/usr/bin/env bash
# llguidance 1.9.1: under "format": "date" an answer may name a day that no calendar has, and validators refuse it.
#
# The format is a pattern: it knows how long each month is and lets 29 February pass in every year, the year 0000 and, in
# a date-time, a sixtieth second at any minute. An answer that was held to such a schema and ended properly can therefore
# fail jsonschema's own check of the same format (here with 4.26.0). Holding is not checking: both are needed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "llguidance==1.9.1" "jsonschema[format]==4.26.0" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import json

from jsonschema import Draft202012Validator
from llguidance import LLMatcher, LLTokenizer

tokenizer = LLTokenizer("byte")


def held(schema, text):
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(schema), log_level=0)
    taken = matcher.try_consume_tokens(list(text.encode()))
    return not matcher.is_error() and taken == len(text.encode()) and matcher.is_accepting()


for day in ("2024-02-29", "2023-02-29", "0000-01-01", "2023-02-30"):
    schema, text = {"type": "string", "format": "date"}, json.dumps(day)
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    print(f"{day}: llguidance lets it pass: {held(schema, text)}, jsonschema: {validator.is_valid(day)}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
2024-02-29: llguidance lets it pass: True, jsonschema: True
2023-02-29: llguidance lets it pass: True, jsonschema: False
0000-01-01: llguidance lets it pass: True, jsonschema: False
2023-02-30: llguidance lets it pass: False, jsonschema: False
SEEN
