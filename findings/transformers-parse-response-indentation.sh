#!/usr/bin/env bash
# transformers 5.24.0: a text argument of Qwen 3.5 loses its indentation, and "007" becomes 7 though a string is allowed.
#
# Qwen 3.5's chat template writes a value on lines of its own, so that one line break on each side is the layout's. The
# response template that transformers uses for it (cli/serving/utils.py) strips all blanks instead: Python code that begins
# indented, as in an edit of a file, comes back broken. And where a tool's schema allows ["string", "integer"], or a nullable
# string, "007" is cast to 7 and the word "null" to None; with "string" alone the text stays.
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
response_template = next(template for models, template in table.items() if "qwen3_5" in models)
chat_template = Path(sys.argv[1], "templates", "Qwen3.5-4B.jinja").read_text()


def there_and_back(value, schema):
    """An argument as the chat template writes it, and as it is read back."""
    tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object", "properties": {"a": schema}}}}
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": value}}}
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    [text], _ = render_jinja_template([messages], chat_template=chat_template, tools=[tool])
    prefix, start, answer = text.rpartition("<|im_start|>assistant\n")
    message = parse_response(answer, response_template, prefix=prefix + start, tools=[tool])
    return message["tool_calls"][0]["function"]["arguments"]["a"]


for value, schema in (
    ("    return 1\n", {"type": "string"}),
    ("007", {"type": "string"}),
    ("007", {"type": ["string", "integer"]}),
    ("null", {"anyOf": [{"type": "string"}, {"type": "null"}]}),
):
    print(f"{value!r} -> {there_and_back(value, schema)!r}")
PYTHON
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" "$folder/show.py" "$folder" 2>/dev/null | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
'    return 1\n' -> 'return 1'
'007' -> '007'
'007' -> 7
'null' -> None
SEEN
