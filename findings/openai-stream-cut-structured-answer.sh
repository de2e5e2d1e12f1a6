#!/usr/bin/env bash
# openai (Python) 3.57: of a structured answer that was cut, `responses.stream()` never lets `response.incomplete` be heard.
#
# With a `text_format` the helper parses the text at `response.output_text.done`, before it knows how the answer ended. Text that
# `max_output_tokens` cut is no JSON: the iteration raises pydantic's ValidationError, which says nothing of a length, and the
# events behind it (`response.incomplete` with its reason, the usage) are lost. A server that leaves `output_text.done` out for
# such text is heard to the end.
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
from pydantic import BaseModel


class City(BaseModel):
    name: str


CUT = '{"name": "Par'
PART = {"type": "output_text", "text": CUT, "annotations": [], "logprobs": []}
AT = {"item_id": "msg_1", "output_index": 0, "content_index": 0}


def response(status, output):
    return {"id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": "m", "output": output,
            "incomplete_details": {"reason": "max_output_tokens"} if output else None, "error": None, "tools": [],
            "instructions": None, "metadata": {}, "temperature": None, "top_p": None, "tool_choice": "auto",
            "parallel_tool_calls": True}


def message(status, content):
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content}


def events(tells_text_done):
    yield "created", {"response": response("in_progress", [])}
    yield "output_item.added", {"output_index": 0, "item": message("in_progress", [])}
    yield "content_part.added", {**AT, "part": {**PART, "text": ""}}
    yield "output_text.delta", {**AT, "delta": CUT, "logprobs": []}
    if tells_text_done:
        yield "output_text.done", {**AT, "text": CUT, "logprobs": []}
    yield "content_part.done", {**AT, "part": PART}
    yield "output_item.done", {"output_index": 0, "item": message("incomplete", [PART])}
    yield "incomplete", {"response": response("incomplete", [message("incomplete", [PART])])}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number, (name, data) in enumerate(events(self.server.tells_text_done)):
            told = {"type": f"response.{name}", "sequence_number": number, **data}
            self.wfile.write(f"event: response.{name}\ndata: {json.dumps(told)}\n\n".encode())

    def log_message(self, *args):
        pass


print("openai", openai.__version__)
for tells_text_done in (True, False):
    server = HTTPServer(("127.0.0.1", 0), Server)
    server.tells_text_done = tells_text_done
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none", max_retries=0)
    heard = []
    try:
        with client.responses.stream(model="m", input="A city?", text_format=City) as stream:
            for event in stream:
                heard.append(event.type)
    except Exception as error:
        heard.append(type(error).__name__)
    print("with" if tells_text_done else "without", "output_text.done:", heard[-2:])
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
openai 3.57.0
with output_text.done: ['response.output_text.delta', 'ValidationError']
without output_text.done: ['response.output_item.done', 'response.incomplete']
SEEN
