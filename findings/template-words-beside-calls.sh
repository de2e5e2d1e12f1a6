#!/usr/bin/env bash
# Chat templates leave out what an assistant said beside a tool call: 12 of 70 (llama-cpp-python 0.3.36's), without an error.
#
# "I'll look that up" with a call in one message is what most agents send back. Llama 3, Mistral Nemo and Small 3.2, Hermes 2
# and 3, Command R7B and others write the call and drop the words; DeepSeek-R1-Distill-Qwen writes them behind the call, as
# a turn of their own; gpt-oss writes them into its analysis channel, as if they had been thought.
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
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "description": "Where."}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "It.", "parameters": PARAMETERS}}
CALL = {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
MESSAGES = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]}]


def answer(name):
    """What the template writes of the call's turn; empty if it raises or shows no call."""
    template = Path(sys.argv[1], "templates", f"{name}.jinja").read_text()
    try:
        texts, _ = render_jinja_template([MESSAGES], chat_template=template, tools=[TOOL], bos_token="", eos_token="")
    except Exception:
        return ""
    text = texts[0][texts[0].rindex("Weather?"):]
    return text if "Paris" in text else ""


names = sorted(path.stem for path in Path(sys.argv[1], "templates").glob("*.jinja"))
shown = {name: text for name in names if (text := answer(name))}
dropped = [name for name, text in shown.items() if "Let me look." not in text]
print(f"of {len(shown)} that show the call, {len(dropped)} drop the words:")
print("\n".join(dropped))
text = shown["deepseek-ai-DeepSeek-R1-Distill-Qwen-32B"]
print("DeepSeek-R1-Distill-Qwen: words behind the call:", text.index("Let me look.") > text.index("Paris"))
print("gpt-oss:", shown["openai-gpt-oss-120b"].split("<|start|>")[1])
PYTHON
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" "$folder/show.py" "$folder" 2>/dev/null | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
of 57 that show the call, 12 drop the words:
Cohere2MoE
CohereForAI-c4ai-command-r7b-12-2024-tool_use
MiniMax-M1
Mistral-Small-3.2-24B-Instruct-2506
NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use
NousResearch-Hermes-3-Llama-3.1-8B-tool_use
meta-llama-Llama-3.1-8B-Instruct
meta-llama-Llama-3.2-3B-Instruct
meta-llama-Llama-3.3-70B-Instruct
mistralai-Mistral-Nemo-Instruct-2407
muse-glimmer
upstage-Solar-Open-100B
DeepSeek-R1-Distill-Qwen: words behind the call: True
gpt-oss: assistant<|channel|>analysis<|message|>Let me look.<|end|>
SEEN
