#!/usr/bin/env bash
# openai (Python) 3.x: a keep-alive comment followed by a blank line breaks a stream, once any event had an `id:`.
#
# The HTML standard (9.2.6) has a client drop an event whose data is empty, and lets the last event id outlive an event.
# The SDK's decoder counts that remembered id as content: the blank line behind a comment becomes an event with empty
# data, and the stream ends with a JSONDecodeError. Without ids the same bytes are read well, and so they are with ids
# where the comment has no blank line behind it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "openai==3.57.0"
cat > "$folder/show.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai

CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
         "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}
EVENT = "data: " + json.dumps(CHUNK) + "\n\n"
STREAMS = {
    "/without-id": EVENT + ": keep-alive\n\n" + EVENT + "data: [DONE]\n\n",
    "/with-id": "id: 1\n" + EVENT + ": keep-alive\n\n" + EVENT + "data: [DONE]\n\n",
    "/with-id-no-blank-line": "id: 1\n" + EVENT + ": keep-alive\n" + EVENT + "data: [DONE]\n\n",
}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(STREAMS[self.path.removesuffix("/chat/completions")].encode())

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("openai", openai.__version__)
for path in STREAMS:
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}{path}", api_key="none")
    try:
        stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
        print(path, "chunks:", len(list(stream)))
    except Exception as error:
        print(path, type(error).__name__)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
openai 3.57.0
/without-id chunks: 2
/with-id JSONDecodeError
/with-id-no-blank-line chunks: 2
SEEN
