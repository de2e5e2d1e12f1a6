#!/usr/bin/env bash
# Chat templates (as llama-cpp-python 0.3.36 carries them): of two system messages one vanishes, and which one differs.
#
# Clients that add instructions of their own (a memory, an agent's rules) send two system messages, which OpenAI's API
# takes. Most templates write both, and some raise. But gpt-oss, SmolLM3, MiniMax and others keep the *first* only, and
# DeepSeek R1's distilled models keep the *last* only, all without an error.
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
    messages = [{"role": "system", "content": text} for text in ("Answer in rhymes.", "Answer in French.")]
    try:
        alone = prompt(path.stem, [messages[0], {"role": "user", "content": "Hi"}])
        text = prompt(path.stem, [*messages, {"role": "user", "content": "Hi"}])
    except Exception:
        fates.setdefault("raised, with two or with one", []).append(path.stem)
        continue
    if "Answer in rhymes." in alone:
        kept = ("first" if "rhymes" in text else "") + ("last" if "French" in text else "")
        fates.setdefault({"firstlast": "both kept", "": "both lost"}.get(kept, f"the {kept} only"), []).append(path.stem)
for kind in sorted(fates):
    print(f"{kind}: {len(fates[kind])}")
    if kind.startswith("the "):
        print("  " + "\n  ".join(fates[kind]))
PYTHON
TRANSFORMERS_NO_ADVISORY_WARNINGS=1 "$folder/venv/bin/python" "$folder/show.py" "$folder" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
both kept: 48
raised, with two or with one: 10
the first only: 8
  Bielik-11B-v3.0-Instruct
  HuggingFaceTB-SmolLM3-3B
  MiniMax-M1
  MiniMax-M2
  MiniMax-M3
  NVIDIA-Nemotron-Nano-v2
  Reka-Edge
  openai-gpt-oss-120b
the last only: 4
  deepseek-ai-DeepSeek-R1-Distill-Llama-8B
  deepseek-ai-DeepSeek-R1-Distill-Qwen-32B
  llama-cpp-deepseek-r1
  llama-cpp-rwkv-world
SEEN
