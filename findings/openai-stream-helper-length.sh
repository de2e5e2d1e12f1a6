#!/usr/bin/env bash
# openai (Python) 3.57: the stream helper has no final completion for an answer that max_tokens ended, with no format asked for.
#
# `finish_reason: "length"` is an ordinary end of an answer, and create() gives it back as such, streamed or not. With
# chat.completions.stream() all events arrive, and then get_final_completion() raises LengthFinishReasonError ("Could not
# parse response content"), though there is nothing to parse: no response_format, no tools. What came is in the error's
# `completion`. With `stop` the same stream has its final completion.
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

def chunks(end):
    """A short answer's chunks, the way the API sends them."""
    shape = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    yield shape | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Once upon"}, "finish_reason": None}]}
    yield shape | {"choices": [{"index": 0, "delta": {}, "finish_reason": end}]}
    yield shape | {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for chunk in chunks(self.path.split("/")[1]):
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
request = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream_options": {"include_usage": True}}
print("openai", openai.__version__)
for end in ("stop", "length"):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/{end}", api_key="none")
    parts = list(client.chat.completions.create(**request, stream=True))
    print(f"{end}: create gives {len(parts)} chunks")
    with client.chat.completions.stream(**request) as stream:
        print(f"{end}: stream gives", [event.type for event in stream])
        try:
            print(f"{end}: final text", repr(stream.get_final_completion().choices[0].message.content))
        except openai.LengthFinishReasonError as error:
            answer = error.completion
            print(f"{end}: LengthFinishReasonError, its completion: {answer.choices[0].message.content!r}, {answer.usage.total_tokens} tokens")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
openai 3.57.0
stop: create gives 3 chunks
stop: stream gives ['chunk', 'content.delta', 'chunk', 'content.done', 'chunk']
stop: final text 'Once upon'
length: create gives 3 chunks
length: stream gives ['chunk', 'content.delta', 'chunk', 'content.done', 'chunk']
length: LengthFinishReasonError, its completion: 'Once upon', 3 tokens
SEEN
