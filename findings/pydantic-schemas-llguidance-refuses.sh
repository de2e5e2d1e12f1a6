#!/usr/bin/env bash
# pydantic 2.14.4 with llguidance 1.9.1: a dozen ordinary field types give a schema that cannot be used as a constraint.
#
# An unknown `format` is an annotation to JSON Schema validators; llguidance refuses the whole schema for it where the
# value is a string (and passes over it in silence where it is a number). pydantic writes formats of its own for Path,
# bytes, SecretStr, Pattern ..., and `uniqueItems` for sets: a UUID works and a UUID4 does not, an IPv4Address works and an
# IPv4Network does not, a list works and a set does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "llguidance==1.9.1" "pydantic==2.14.4" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import datetime
import decimal
import ipaddress
import pathlib
import re
import uuid

import pydantic
from llguidance import LLMatcher, LLTokenizer

tokenizer = LLTokenizer("byte")
TYPES = {
    "UUID": uuid.UUID, "UUID4": pydantic.UUID4, "UUID7": pydantic.UUID7,
    "IPv4Address": ipaddress.IPv4Address, "IPv4Network": ipaddress.IPv4Network, "IPvAnyAddress": pydantic.IPvAnyAddress,
    "Decimal": decimal.Decimal, "date": datetime.date, "timedelta": datetime.timedelta, "HttpUrl": pydantic.HttpUrl,
    "list[int]": list[int], "set[int]": set[int], "frozenset[int]": frozenset[int],
    "Path": pathlib.Path, "FilePath": pydantic.FilePath, "bytes": bytes, "Base64Str": pydantic.Base64Str,
    "SecretStr": pydantic.SecretStr, "Pattern": re.Pattern,
}


def refusal(schema):
    failed, messages = LLMatcher.validate_grammar_with_warnings(LLMatcher.grammar_from_json_schema(schema), tokenizer)
    return messages[0].splitlines()[0] if failed else "usable"


for name, kind in TYPES.items():
    print(f"{name:16}", refusal(pydantic.create_model("Answer", field=(kind, ...)).model_json_schema()))
for kind in ("string", "number"):
    print(f"a {kind} of an unknown format:", refusal({"type": kind, "format": "roman"}))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
UUID             usable
UUID4            Unknown format: uuid4
UUID7            Unknown format: uuid7
IPv4Address      usable
IPv4Network      Unknown format: ipv4network
IPvAnyAddress    Unknown format: ipvanyaddress
Decimal          usable
date             usable
timedelta        usable
HttpUrl          usable
list[int]        usable
set[int]         Unimplemented keys: ["uniqueItems"]
frozenset[int]   Unimplemented keys: ["uniqueItems"]
Path             Unknown format: path
FilePath         Unknown format: file-path
bytes            Unknown format: binary
Base64Str        Unknown format: base64
SecretStr        Unknown format: password
Pattern          Unknown format: regex
a string of an unknown format: Unknown format: roman
a number of an unknown format: usable
SEEN
