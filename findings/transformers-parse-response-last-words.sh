#!/usr/bin/env bash
# transformers 5.24.0: parse_response keeps the last piece of an answer's words; what was said before a tool call is gone.
#
# With the response template that transformers itself uses for Qwen 2 and 3 (cli/serving/utils.py), words on both sides
# of a call give a message whose content is the second piece alone: the field is opened twice, and its second value takes
# the place of the first. Nothing is raised. With words on one side only it works. The same template takes a <think> in
# the middle of a sentence for thoughts, which then swallow the rest of the answer with the end-of-turn marker in it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "transformers==5.24.0" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import ast
from pathlib import Path

import transformers
from transformers.utils.chat_parsing import parse_response

# The module that holds it wants a web framework: only its table is read.
source = Path(transformers.__file__).parent.joinpath("cli", "serving", "utils.py").read_text()
table = next(
    ast.literal_eval(node.value)
    for node in ast.parse(source).body
    if isinstance(node, ast.Assign) and node.targets[0].id == "_RESPONSE_TEMPLATE_FALLBACKS"
)
qwen = next(template for models, template in table.items() if "qwen3" in models)
CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
for text in (
    f"Let me look.\n{CALL}<|im_end|>",
    f"Let me look.\n{CALL}\nThis takes a moment.<|im_end|>",
    "The tag <think> begins it. Then the model goes on.<|im_end|>",
):
    message = parse_response(text, qwen, prefix="<|im_start|>assistant\n")
    print({name: value if isinstance(value, str) else len(value) for name, value in message.items() if name != "role"})
PYTHON
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" "$folder/show.py" 2>/dev/null | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
{'content': 'Let me look.', 'tool_calls': 1}
{'content': 'This takes a moment.', 'tool_calls': 1}
{'content': 'The tag', 'reasoning_content': 'begins it. Then the model goes on.<|im_end|>'}
SEEN
