#!/usr/bin/env bash
# openai (Python) 3.57: the stream helper fails when a choice other than the first speaks first.
#
# With n above 1 the chunks of the choices come interleaved, each with its `index`; the API promises no order among them.
# chat.completions.stream() puts a new choice at the end of its list and then looks it up *by index*: when choice 1 comes
# before choice 0, it is an IndexError. The same bytes read by create(stream=True) are fine.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "openai==3.57.0" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai

ORDERS = {"/0-then-1": [0, 1], "/1-then-0": [1, 0]}


def chunk(index, text, finish_reason):
    choice = {"index": index, "delta": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for index in ORDERS[self.path.removesuffix("/chat/completions")]:
            self.wfile.write(f"data: {json.dumps(chunk(index, f'answer {index}', 'stop'))}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("openai", openai.__version__)
for path in ORDERS:
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}{path}", api_key="none")
    request = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "n": 2}
    print(path, "create:", [part.choices[0].delta.content for part in client.chat.completions.create(**request, stream=True)])
    try:
        with client.chat.completions.stream(**request) as stream:
            print(path, "stream:", [choice.message.content for choice in stream.get_final_completion().choices])
    except IndexError as error:
        print(path, "stream: IndexError", error)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
openai 3.57.0
/0-then-1 create: ['answer 0', 'answer 1']
/0-then-1 stream: ['answer 0', 'answer 1']
/1-then-0 create: ['answer 1', 'answer 0']
/1-then-0 stream: IndexError list assignment index out of range
SEEN
