#!/usr/bin/env bash
# gpt-oss-120b's chat template (as llama-cpp-python 0.3.36 carries it): of parallel tool calls all but the first vanish, their results don't.
#
# An OpenAI client that got two calls in one assistant message sends that message back with the two results. The template
# writes the first call only, and both results *under the first call's name*: the model reads that get_weather answered
# with a time of day. Nothing is raised. GigaChat 3's template drops the second call too; Llama 3.1's raises; Qwen 2.5,
# Mistral Nemo and Kimi K2 write both.
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


def call(identifier, name):
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": {"city": "Paris"}}}


MESSAGES = [
    {"role": "user", "content": "Weather and time in Paris?"},
    {"role": "assistant", "content": "", "tool_calls": [call("callaaaa1", "get_weather"), call("callaaaa2", "get_time")]},
    {"role": "tool", "tool_call_id": "callaaaa1", "content": "rainy"},
    {"role": "tool", "tool_call_id": "callaaaa2", "content": "noon"},
]
text = prompt("openai-gpt-oss-120b", MESSAGES)
print(text[text.index("<|start|>user"):].replace("<|start|>", "\n<|start|>").strip())
for name in ("GigaChat3-10B-A1.8B", "meta-llama-Llama-3.1-8B-Instruct", "Qwen-Qwen2.5-7B-Instruct", "mistralai-Mistral-Nemo-Instruct-2407", "moonshotai-Kimi-K2"):
    try:
        text = prompt(name, MESSAGES)
        print(f"{name}: calls", [word for word in ("get_weather", "get_time") if word in text], "results", [word for word in ("rainy", "noon") if word in text])
    except Exception as error:
        print(f"{name}: raises {error}")
PYTHON
TRANSFORMERS_NO_ADVISORY_WARNINGS=1 "$folder/venv/bin/python" "$folder/show.py" "$folder" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
<|start|>user<|message|>Weather and time in Paris?<|end|>
<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris"}<|call|>
<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>"rainy"<|end|>
<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>"noon"<|end|>
<|start|>assistant
GigaChat3-10B-A1.8B: calls ['get_weather'] results ['rainy', 'noon']
meta-llama-Llama-3.1-8B-Instruct: raises This model only supports single tool-calls at once!
Qwen-Qwen2.5-7B-Instruct: calls ['get_weather', 'get_time'] results ['rainy', 'noon']
mistralai-Mistral-Nemo-Instruct-2407: calls ['get_weather', 'get_time'] results ['rainy', 'noon']
moonshotai-Kimi-K2: calls ['get_weather', 'get_time'] results ['rainy', 'noon']
SEEN
