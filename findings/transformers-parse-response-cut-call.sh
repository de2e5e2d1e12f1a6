#!/usr/bin/env bash
# transformers 5.24.0: parse_response raises for an answer that max_tokens cut in a call, or that only names the tag.
#
# The thoughts and words that were parsed before are lost with it: a ValueError, no message. A model that explains its own
# format ("write <tool_call> and </tool_call> around it") makes it raise as well, though there is no call. Both with the
# response template that transformers itself uses for Qwen 2 and 3 (cli/serving/utils.py).
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
for text in (
    '<think>Hm</think>Let me look.\n<tool_call>\n{"name": "f", "arguments": {"city": "Paris"}}\n</tool_call>',
    '<think>Hm</think>Let me look.\n<tool_call>\n{"name": "f", "arguments": {"city": "Par',
    "<think>Hm</think>Write <tool_call> and </tool_call> around it.<|im_end|>",
):
    try:
        message = parse_response(text, qwen, prefix="<|im_start|>assistant\n")
        print(sorted(message))
    except ValueError as error:
        print("ValueError:", str(error).splitlines()[0])
PYTHON
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" "$folder/show.py" 2>/dev/null | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
['content', 'reasoning_content', 'role', 'tool_calls']
ValueError: json parser could not parse region as JSON.
ValueError: json parser could not parse region as JSON.
SEEN
