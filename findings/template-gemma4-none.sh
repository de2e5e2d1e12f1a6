#!/usr/bin/env bash
# Gemma 4's chat template (as llama-cpp-python 0.3.36 carries it) writes a null argument as Python's None.
#
# true and false are written as JSON has them, null is not. The response template that transformers 5.24.0 uses for
# Gemma 4 reads the arguments as JSON with unquoted keys and raises for the call that the model's own template wrote; so
# does every parser that knows JSON's words only. A model that was trained on that template writes None, too.
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
import ast
import sys
from pathlib import Path

import transformers
from transformers.utils.chat_parsing import parse_response
from transformers.utils.chat_template_utils import render_jinja_template

# The module that holds it wants a web framework: only its table is read.
source = Path(transformers.__file__).parent.joinpath("cli", "serving", "utils.py").read_text()
table = next(
    ast.literal_eval(node.value)
    for node in ast.parse(source).body
    if isinstance(node, ast.Assign) and node.targets[0].id == "_RESPONSE_TEMPLATE_FALLBACKS"
)
response_template = next(template for models, template in table.items() if "gemma4" in models)
chat_template = Path(sys.argv[1], "templates", "google-gemma-4-31B-it.jinja").read_text()
for arguments in ({"flag": True}, {"limit": None}):
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    [text], _ = render_jinja_template([messages], chat_template=chat_template, bos_token="")
    prefix, start, answer = text.rpartition("<|turn>model\n")
    print(answer)
    try:
        print(parse_response(answer, response_template, prefix=prefix + start)["tool_calls"][0]["function"]["arguments"])
    except ValueError as error:
        print("ValueError:", str(error).splitlines()[0])
PYTHON
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" "$folder/show.py" "$folder" 2>/dev/null | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
<|tool_call>call:f{flag:true}<tool_call|><|tool_response>
{'flag': True}
<|tool_call>call:f{limit:None}<tool_call|><|tool_response>
ValueError: json: could not parse after dialect transforms.
SEEN
