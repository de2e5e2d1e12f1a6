#!/usr/bin/env bash
# Chat templates (as llama-cpp-python 0.3.36 carries them): more than half drop a message of role `developer`, without an error.
#
# OpenAI's API has `developer` in the place of `system` for its newer models, and its SDKs and agents send it. Of 65
# templates that render a plain system message, 34 leave the developer's words out altogether: Qwen 2.5 and Qwen 3, Phi 3.5,
# GLM 4.6, SmolLM3, DeepSeek R1's distilled models and V3.1, Granite 4 and others. Only 7 raise (Mistral, Qwen 3.5). Of the
# rest, some write whatever role they are given (Llama 3, LFM2), whether their model has ever seen it or not.
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


KNOWN = (
    "Qwen-Qwen2.5-7B-Instruct", "Qwen-Qwen3-0.6B", "microsoft-Phi-3.5-mini-instruct", "GLM-4.6", "HuggingFaceTB-SmolLM3-3B",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "deepseek-ai-DeepSeek-V3.1", "ibm-granite-granite-4.0", "meta-llama-Llama-3.3-70B-Instruct",
    "LFM2-8B-A1B", "openai-gpt-oss-120b", "mistralai-Mistral-Nemo-Instruct-2407", "Qwen3.5-4B",
)


def fate(name, role):
    """What becomes of the words of a first message of that role."""
    try:
        text = prompt(name, [{"role": role, "content": "Answer in rhymes."}, {"role": "user", "content": "Hi"}])
    except Exception:
        return "raised"
    return "in the prompt" if "Answer in rhymes." in text else "lost"


names = sorted(path.stem for path in Path(sys.argv[1], "templates").glob("*.jinja"))
names = [name for name in names if fate(name, "system") == "in the prompt"]
fates = {name: fate(name, "developer") for name in names}
print("templates that render a system message:", len(names))
for kind in ("lost", "in the prompt", "raised"):
    print(f"  developer message {kind}: {list(fates.values()).count(kind)}")
for name in KNOWN:
    print(f"{name}: {fates[name]}")
PYTHON
TRANSFORMERS_NO_ADVISORY_WARNINGS=1 "$folder/venv/bin/python" "$folder/show.py" "$folder" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
templates that render a system message: 65
  developer message lost: 34
  developer message in the prompt: 24
  developer message raised: 7
Qwen-Qwen2.5-7B-Instruct: lost
Qwen-Qwen3-0.6B: lost
microsoft-Phi-3.5-mini-instruct: lost
GLM-4.6: lost
HuggingFaceTB-SmolLM3-3B: lost
deepseek-ai-DeepSeek-R1-Distill-Qwen-32B: lost
deepseek-ai-DeepSeek-V3.1: lost
ibm-granite-granite-4.0: lost
meta-llama-Llama-3.3-70B-Instruct: in the prompt
LFM2-8B-A1B: in the prompt
openai-gpt-oss-120b: in the prompt
mistralai-Mistral-Nemo-Instruct-2407: raised
Qwen3.5-4B: raised
SEEN
