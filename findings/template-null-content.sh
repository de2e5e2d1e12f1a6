#!/usr/bin/env bash
# Chat templates (as llama-cpp-python 0.3.36 carries them): `"content": null` beside tool calls puts "None" into the prompt, or raises.
#
# An assistant message that only calls tools has `content: null` in OpenAI's API, and clients send it back so. GLM 4.6, GLM
# 4.7 and MiniMax M2 then write the word None as what the assistant said, LFM2 the word null; Qwen 3, QwQ, Granite 3.3, Phi
# 3.5, gpt-oss, Ministral 3, Devstral and others raise Python's complaints about None. All of them render the same message
# with an empty string. Leaving the key out is no way round: five of them raise for that as well.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
{
  "$folder/venv/bin/pip" install -q --disable-pip-version-check "transformers==5.23.0" "jinja2==3.1.6"
  "$folder/venv/bin/pip" download -q --disable-pip-version-check --no-deps --no-binary llama-cpp-python -d "$folder" "llama-cpp-python==0.3.36"
} 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
tar -xzf "$folder"/llama_cpp_python-*.tar.gz -C "$folder" --wildcards "*/vendor/llama.cpp/models/templates/*.jinja" --strip-components=4
cat > "$folder/show.py" <<'PYTHON'
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template


def prompt(name, messages, **more):
    template = Path(sys.argv[1], "templates", f"{name}.jinja").read_text()
    texts, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=True, bos_token="", eos_token="", **more)
    return texts[0]


TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
CALL = {"id": "callaaaa1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}


def render(name, content):
    answer = {"role": "assistant", **content, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "callaaaa1", "content": "rainy"}
    try:
        return prompt(name, [{"role": "user", "content": "Weather in Paris?"}, answer, result], tools=TOOLS)
    except Exception as error:
        return f"raises {error}"


for path in sorted(Path(sys.argv[1], "templates").glob("*.jinja")):
    empty, null, absent = (render(path.stem, content) for content in ({"content": ""}, {"content": None}, {}))
    if empty.startswith("raises"):
        continue
    if null.startswith("raises") and "None" in null:
        print(f"{path.stem}: null {null} | key left out:", "raises" if absent.startswith("raises") else "fine")
    for word in ("None", "null"):
        if not null.startswith("raises") and null.count(word) > empty.count(word):
            print(f"{path.stem}: null is written as {word!r}")
PYTHON
TRANSFORMERS_NO_ADVISORY_WARNINGS=1 "$folder/venv/bin/python" "$folder/show.py" "$folder" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
Bielik-11B-v3.0-Instruct: null raises argument of type 'NoneType' is not iterable | key left out: fine
GLM-4.6: null is written as 'None'
GLM-4.7-Flash: null is written as 'None'
LFM2-8B-A1B: null is written as 'null'
LFM2.5-8B-A1B: null raises 'NoneType' object is not iterable | key left out: fine
LFM2.5-Instruct: null is written as 'null'
MiniMax-M2: null is written as 'None'
Qwen-QwQ-32B: null raises 'None' has no attribute 'split' | key left out: raises
Qwen-Qwen3-0.6B: null raises argument of type 'NoneType' is not iterable | key left out: raises
ibm-granite-granite-3.3-2B-Instruct: null raises can only concatenate str (not "NoneType") to str | key left out: raises
microsoft-Phi-3.5-mini-instruct: null raises can only concatenate str (not "NoneType") to str | key left out: raises
mistralai-Ministral-3-14B-Reasoning-2512: null raises object of type 'NoneType' has no len() | key left out: fine
openai-gpt-oss-120b: null raises argument of type 'NoneType' is not iterable | key left out: fine
unsloth-mistral-Devstral-Small-2507: null raises None has no element 0 | key left out: raises
SEEN
