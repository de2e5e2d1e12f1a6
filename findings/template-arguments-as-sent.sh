#!/usr/bin/env bash
# Chat templates given a tool call as OpenAI's API sends it: of 70 (llama-cpp-python 0.3.36's), 20 encode its arguments twice.
#
# In the API a call's arguments are a text with JSON in it. A server that hands such a message on to the template shows the
# model a string where an object stood in training, {"arguments": "{\"city\": \"Paris\"}"}, without an error: Llama 3, Qwen 2.5,
# Mistral Nemo and gpt-oss among them. 21 more raise. One takes nothing but the text: Functionary 3.2 fails on an object,
# so that always parsing the arguments is no way out either.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
{
  "$folder/venv/bin/pip" install -q --disable-pip-version-check "transformers==5.24.0" "jinja2==3.1.6"
  "$folder/venv/bin/pip" download -q --disable-pip-version-check --no-deps --no-binary llama-cpp-python -d "$folder" "llama-cpp-python==0.3.36"
} 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
tar -xzf "$folder"/llama_cpp_python-*.tar.gz -C "$folder" --wildcards "*/vendor/llama.cpp/models/templates/*.jinja" --strip-components=4
cat > "$folder/show.py" <<'PYTHON'
import sys
from collections import Counter
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "description": "Where."}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "It.", "parameters": PARAMETERS}}


def rendered(template, arguments):
    call = {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    messages = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    try:
        texts, _ = render_jinja_template([messages], chat_template=template, tools=[TOOL], bos_token="", eos_token="")
    except Exception:
        return None
    return texts[0]


def kind(template):
    text, parsed = rendered(template, '{"city": "Paris"}'), rendered(template, {"city": "Paris"})
    if parsed is None or "Paris" not in parsed:
        return "takes the text only" if text and "Paris" in text else "shows no call of either form"
    if text is None:
        return "raises for the text"
    return "encodes the text twice" if r"\"city\"" in text else "shows the same for both" if text == parsed else "differs in blanks"


kinds = {path.stem: kind(path.read_text()) for path in sorted(Path(sys.argv[1], "templates").glob("*.jinja"))}
for name, count in sorted(Counter(kinds.values()).items()):
    print(f"{count:2} {name}")
for name in ("Qwen-Qwen2.5-7B-Instruct", "meta-llama-Llama-3.3-70B-Instruct", "openai-gpt-oss-120b", "Qwen3-Coder", "meetkai-functionary-medium-v3.2"):
    print(f"{name}: {kinds[name]}")
PYTHON
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" "$folder/show.py" "$folder" 2>/dev/null | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
 3 differs in blanks
20 encodes the text twice
21 raises for the text
12 shows no call of either form
13 shows the same for both
 1 takes the text only
Qwen-Qwen2.5-7B-Instruct: encodes the text twice
meta-llama-Llama-3.3-70B-Instruct: encodes the text twice
openai-gpt-oss-120b: encodes the text twice
Qwen3-Coder: raises for the text
meetkai-functionary-medium-v3.2: takes the text only
SEEN
