#!/usr/bin/env bash
# anthropic (Python) 2.14: the tool runner's second request has none of the conversation, unless the server refuses `thread`.
#
# `client.beta.messages.tool_runner(...)` sends `"thread": {"type": "create"}` by itself, without a word from its user, and
# then `"thread": {"type": "continue", ...}` with the new messages only. A server that ignores fields that it doesn't know,
# as most do, answers the first and gets a lone tool_result next. It is to refuse the first with an error whose
# `details.error_code` is `thread_unsupported_request`: then the runner sends all of the conversation, each time.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "anthropic==2.14.0"
cat > "$folder/show.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import anthropic

CALL = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
WORDS = {"type": "text", "text": "Snow."}
REFUSAL = {"type": "invalid_request_error", "message": "no threads here",
           "details": {"error_code": "thread_unsupported_request"}}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        roles = [message["role"] for message in body["messages"]]
        print(" ", json.dumps(body.get("thread")), roles)
        if "thread" in body and self.server.refuses:
            return self.answer(400, {"type": "error", "error": REFUSAL})
        is_done = "tool_result" in json.dumps(body["messages"])
        content, reason = ([WORDS], "end_turn") if is_done else ([CALL], "tool_use")
        self.answer(200, {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content,
                          "stop_reason": reason, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}})

    def answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *args):
        pass


@anthropic.beta_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return "snow"


print("anthropic", anthropic.__version__)
for refuses in (False, True):
    server = HTTPServer(("127.0.0.1", 0), Server)
    server.refuses = refuses
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("a server that refuses threads" if refuses else "a server that knows no threads")
    client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{server.server_port}", api_key="none", max_retries=0)
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    client.beta.messages.tool_runner(model="m", max_tokens=9, tools=[get_weather], messages=asked).until_done()
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
anthropic 2.14.0
a server that knows no threads
  {"type": "create"} ['user']
  {"type": "continue", "previous_message_id": "msg_1"} ['user']
a server that refuses threads
  {"type": "create"} ['user']
  null ['user']
  null ['user', 'assistant', 'user']
SEEN
