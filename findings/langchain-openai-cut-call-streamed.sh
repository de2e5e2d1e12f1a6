#!/usr/bin/env bash
# langchain-openai 1.7.4: a tool call that max_tokens cut is a valid call when it is streamed, with what was there of its arguments.
#
# The model is stopped in {"city": "York", "nights": 1 of 14 nights, and finish_reason is "length". Asked without a stream,
# LangChain has the call under invalid_tool_calls and nothing in tool_calls. From a stream it mends the JSON: a proper call
# that books one night, for every agent that looks at tool_calls.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "langchain-openai==1.7.4" "langchain-core==1.8.3" "openai==3.57.0" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from langchain_openai import ChatOpenAI

HEAD = {"id": "x", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
PIECES = ("", '{"city": "York", ', '"nights": 1')  # 4} would have come


def call(arguments, **more):
    return {"function": {"arguments": arguments, **({"name": "book"} if more else {})}, **more}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if request.get("stream"):
            first = {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **call("", id="c1", type="function")}]}
            deltas = [(first, None)] + [({"tool_calls": [{"index": 0, **call(piece)}]}, None) for piece in PIECES[1:]]
            chunks = [
                {**HEAD, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
                for delta, reason in [*deltas, ({}, "length")]
            ]
            body, kind = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n", "text/event-stream"
        else:
            calls = [call("".join(PIECES), id="c1", type="function")]
            message = {"role": "assistant", "content": None, "tool_calls": calls}
            choice = {"index": 0, "message": message, "finish_reason": "length"}
            body, kind = json.dumps({**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}), "application/json"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
parameters = {"type": "object", "properties": {"city": {"type": "string"}, "nights": {"type": "integer"}}}
tool = {"type": "function", "function": {"name": "book", "description": "Books a room.", "parameters": parameters}}
model = ChatOpenAI(model="m", base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="x", max_retries=0).bind_tools([tool])
whole, streamed = model.invoke("A room in York for 14 nights, please."), None
for chunk in model.stream("A room in York for 14 nights, please."):
    streamed = chunk if streamed is None else streamed + chunk
for name, message in (("whole", whole), ("streamed", streamed)):
    called = [one["args"] for one in message.tool_calls]
    print(f"{name}: finish_reason {message.response_metadata['finish_reason']}, tool_calls {called}, invalid {len(message.invalid_tool_calls)}")
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
whole: finish_reason length, tool_calls [], invalid 1
streamed: finish_reason length, tool_calls [{'city': 'York', 'nights': 1}], invalid 0
SEEN
