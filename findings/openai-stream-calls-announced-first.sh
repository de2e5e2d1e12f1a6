#!/usr/bin/env bash
# openai 3.57.0: stream() raises for two tool calls whose arguments come after both were announced; without a stream it reads them.
#
# Each delta of a call has an index, so that calls may be told side by side: both names, then the arguments of each. The
# SDK's chat.completions.stream() takes a change of the index for the end of the call before and parses what is there of it,
# which is nothing: a ValidationError of pydantic in the middle of the stream, where the tools are pydantic_function_tool's
# (strict). With a plain tool the same stream is read. parse() reads the same answer when it comes whole.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "openai==3.57.0" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel

HEAD = {"id": "x", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
ARGUMENTS = ('{"zone": "UTC"}', '{"zone": "CET"}')


def call(number, arguments):
    return {"id": f"c{number}", "type": "function", "function": {"name": "clock", "arguments": arguments}}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if request.get("stream"):
            deltas = [{"role": "assistant", "tool_calls": [{"index": n, **call(n, "")}]} for n in (0, 1)]
            deltas += [{"tool_calls": [{"index": n, "function": {"arguments": ARGUMENTS[n]}}]} for n in (0, 1)]
            choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
            choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
            chunks = [{**HEAD, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
            body, kind = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n", "text/event-stream"
        else:
            message = {"role": "assistant", "content": None, "tool_calls": [call(n, ARGUMENTS[n]) for n in (0, 1)]}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            body, kind = json.dumps({**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}), "application/json"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


class clock(BaseModel):
    zone: str


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="x", max_retries=0)
STRICT = pydantic_function_tool(clock)
PLAIN = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
ask = {"model": "m", "messages": [{"role": "user", "content": "What time is it, in both?"}]}


def told(completion):
    return [call.function.arguments for call in completion.choices[0].message.tool_calls]


def streamed(tool):
    with client.chat.completions.stream(**ask, tools=[tool]) as stream:
        for _ in stream:
            pass
        return told(stream.get_final_completion())


for name, answer in (
    ("parse()", lambda: told(client.chat.completions.parse(**ask, tools=[STRICT]))),
    ("stream(), a plain tool", lambda: streamed(PLAIN)),
    ("stream(), a tool of pydantic", lambda: streamed(STRICT)),
):
    try:
        print(f"{name}: {answer()}")
    except Exception as error:
        print(f"{name}: {type(error).__name__}, {str(error).splitlines()[1].split('[')[0].strip()}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
parse(): ['{"zone": "UTC"}', '{"zone": "CET"}']
stream(), a plain tool: ['{"zone": "UTC"}', '{"zone": "CET"}']
stream(), a tool of pydantic: ValidationError, Invalid JSON: EOF while parsing a value at line 1 column 0
SEEN
