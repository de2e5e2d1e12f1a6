#!/usr/bin/env bash
# anthropic (Python) 2.14: a call whose arguments were cut comes out of the stream helper as a whole, smaller one.
#
# `messages.stream()` reads a tool_use block's JSON as far as it goes. A string that `max_tokens` cut is dropped with its key, and
# what is left is an ordinary dict: `write({"path": "a.txt"})` where the model was about to say what to write. Nothing in the block
# tells; only the message's `stop_reason` does, so whoever runs calls has to look at that first.
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

PIECES = ['{"path": "a.txt", "con', 'tent": "hel']  # max_tokens came here
USAGE = {"input_tokens": 1, "output_tokens": 1}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
           "stop_sequence": None, "usage": USAGE}


def events():
    yield "message_start", {"message": MESSAGE}
    call = {"type": "tool_use", "id": "toolu_1", "name": "write", "input": {}}
    yield "content_block_start", {"index": 0, "content_block": call}
    for piece in PIECES:
        yield "content_block_delta", {"index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}
    yield "content_block_stop", {"index": 0}
    yield "message_delta", {"delta": {"stop_reason": "max_tokens", "stop_sequence": None}, "usage": USAGE}
    yield "message_stop", {}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for name, data in events():
            self.wfile.write(f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode())

    def log_message(self, *args):
        pass


print("anthropic", anthropic.__version__)
server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{server.server_port}", api_key="none", max_retries=0)
with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "Write it."}]) as stream:
    message = stream.get_final_message()
print(message.stop_reason, message.content[0].input)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
anthropic 2.14.0
max_tokens {'path': 'a.txt'}
SEEN
