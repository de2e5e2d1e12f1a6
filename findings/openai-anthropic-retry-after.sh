#!/usr/bin/env bash
# openai (Python) 3.57 and anthropic (Python) 2.14: the same `Retry-After` of more than two minutes means opposite things to them.
#
# Both SDKs share their design, retry a 429 twice and do as `Retry-After` says, up to 120 s. Above that, openai gives up at
# once: no retry at all, not even after its own shorter delay. anthropic sleeps as long as it is told: an hour, twice,
# inside one call. (The sleep is recorded here, not slept.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "openai==3.57.0" "anthropic==2.14.0" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import anthropic
import openai

said, requests, slept = ["0"], [], []


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        requests.append(self.path)
        self.send_response(429)
        self.send_header("Retry-After", said[0])
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"error": {"type": "rate_limit_error", "message": "later"}}')

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
time.sleep = lambda seconds: slept.append(round(seconds))
url, messages = f"http://127.0.0.1:{server.server_port}", [{"role": "user", "content": "hi"}]
CALLS = {
    "openai": lambda: openai.OpenAI(base_url=url, api_key="none").chat.completions.create(model="m", messages=messages),
    "anthropic": lambda: anthropic.Anthropic(base_url=url, api_key="none").messages.create(model="m", messages=messages, max_tokens=1),
}
print("openai", openai.__version__, "anthropic", anthropic.__version__)
for said[0] in ("5", "120", "121", "3600"):
    for name, call in CALLS.items():
        requests.clear()
        slept.clear()
        try:
            call()
        except Exception as error:
            print(f"Retry-After {said[0]}: {name} sends {len(requests)} requests, sleeps {slept}, raises {type(error).__name__}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
openai 3.57.0 anthropic 2.14.0
Retry-After 5: openai sends 3 requests, sleeps [5, 5], raises RateLimitError
Retry-After 5: anthropic sends 3 requests, sleeps [5, 5], raises RateLimitError
Retry-After 120: openai sends 3 requests, sleeps [120, 120], raises RateLimitError
Retry-After 120: anthropic sends 3 requests, sleeps [120, 120], raises RateLimitError
Retry-After 121: openai sends 1 requests, sleeps [], raises RateLimitError
Retry-After 121: anthropic sends 3 requests, sleeps [121, 121], raises RateLimitError
Retry-After 3600: openai sends 1 requests, sleeps [], raises RateLimitError
Retry-After 3600: anthropic sends 3 requests, sleeps [3600, 3600], raises RateLimitError
SEEN
