#!/usr/bin/env bash
# Chat templates (as llama-cpp-python 0.3.36 carries them): a `content` given as a list of text parts is lost, or printed as Python.
#
# OpenAI's API takes a user's text as a string or as a list of parts, and clients send either. A chat template is written for
# one of them, or for both. Given the list, SmolLM3, MiniCPM5 and Laguna write an empty user turn, without an error. Llama 3, Gemma 2,
# LFM2, Nemotron 3, Command R7B and others show the model Python's notation, brackets and all. Many raise (Qwen 2.5 and
# Qwen 3, Phi 3.5, Granite 3.3), with words about str and list. Fewer than half write the text alone.
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


fates = {}
for path in sorted(Path(sys.argv[1], "templates").glob("*.jinja")):
    try:
        plain = prompt(path.stem, [{"role": "user", "content": "How is the weather?"}])
    except Exception:
        continue  # needs tools, or more than plain messages
    try:
        text = prompt(path.stem, [{"role": "user", "content": [{"type": "text", "text": "How is the weather?"}]}])
    except Exception:
        fate = "raised"
    else:
        notation = "{'type': 'text'" in text or '{"type": "text"' in text
        fate = "printed as Python" if notation else "as the string" if text == plain else "otherwise" if "weather" in text else "lost"
    fates.setdefault(fate, []).append(path.stem)
for fate in sorted(fates):
    print(f"{fate}: {len(fates[fate])}")
    if fate in ("lost", "printed as Python", "otherwise"):
        print("  " + "\n  ".join(fates[fate]))
for name in ("Qwen-Qwen2.5-7B-Instruct", "Qwen-Qwen3-0.6B", "microsoft-Phi-3.5-mini-instruct", "ibm-granite-granite-3.3-2B-Instruct"):
    print(name, "is among the raised:", name in fates["raised"])
PYTHON
TRANSFORMERS_NO_ADVISORY_WARNINGS=1 "$folder/venv/bin/python" "$folder/show.py" "$folder" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
as the string: 26
lost: 5
  HuggingFaceTB-SmolLM3-3B
  openbmb-MiniCPM5-1B
  poolside-Laguna-S-2.1
  poolside-Laguna-XS-2.1
  poolside-Laguna-XS.2
printed as Python: 13
  CohereForAI-c4ai-command-r7b-12-2024-tool_use
  GigaChat3-10B-A1.8B
  GigaChat3.1-10B-A1.8B
  LFM2-8B-A1B
  LFM2.5-Instruct
  NVIDIA-Nemotron-3-Nano-30B-A3B-BF16
  deepseek-ai-DeepSeek-V4-Flash-0731
  deepseek-ai-DeepSeek-V4
  google-gemma-2-2b-it
  llama-cpp-rwkv-world
  meta-llama-Llama-3.1-8B-Instruct
  meta-llama-Llama-3.2-3B-Instruct
  meta-llama-Llama-3.3-70B-Instruct
raised: 22
Qwen-Qwen2.5-7B-Instruct is among the raised: True
Qwen-Qwen3-0.6B is among the raised: True
microsoft-Phi-3.5-mini-instruct is among the raised: True
ibm-granite-granite-3.3-2B-Instruct is among the raised: True
SEEN
