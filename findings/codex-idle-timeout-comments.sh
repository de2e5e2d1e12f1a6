#!/usr/bin/env bash
# Codex CLI 0.171: comments of server-sent events do not keep its stream alive, events of any type do.
#
# The HTML standard (9.2.7) recommends a comment line every 15 seconds against timeouts. Codex gives up a stream in which no
# event came for `stream_idle_timeout_ms` (5 minutes unless set), whatever comments came, and sends the whole request again,
# five times. A server that computes a long prompt on a slow machine is never done so. A repeated response.in_progress, or an
# event of a type that Codex doesn't know, sets the clock back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/home" "$folder/work"
HOME="$folder/home" npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" "@openai/codex@0.171.0"
cat > "$folder/show.py" <<'PYTHON'
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER = sys.argv[1]
RESPONSE = {"id": "resp_1", "object": "response", "created_at": 1, "status": "in_progress", "model": "m", "output": []}
PART = {"type": "output_text", "text": "Hello.", "annotations": []}
ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [PART]}
USAGE = {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
         "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2}
DONE = {**RESPONSE, "status": "completed", "output": [ITEM], "usage": USAGE}


def event(kind, **more):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


SILENCE = {
    "nothing": b"",
    "comments": b": keep-alive\n\n",
    "response.in_progress": event("response.in_progress", response=RESPONSE, sequence_number=1),
    "an unknown event": event("keepalive", sequence_number=1),
}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(event("response.created", response=RESPONSE, sequence_number=0))
        for _ in range(18):
            time.sleep(0.5)
            self.wfile.write(self.server.silence)
            self.wfile.flush()
        self.wfile.write(event("response.output_item.done", output_index=0, item=ITEM, sequence_number=2))
        self.wfile.write(event("response.completed", response=DONE, sequence_number=3))

    def log_message(self, *args):
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        pass  # the client went away


for name, silence in SILENCE.items():
    server = Quiet(("127.0.0.1", 0), Server)
    server.silence = silence
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "model": "m",
        "model_provider": "here",
        "analytics.enabled": False,
        "check_for_update_on_startup": False,
        "model_providers.here.name": "here",
        "model_providers.here.base_url": f"http://127.0.0.1:{server.server_port}/v1",
        "model_providers.here.wire_api": "responses",
        "model_providers.here.stream_idle_timeout_ms": 3000,
        "model_providers.here.stream_max_retries": 0,
    }
    given = [part for key, value in settings.items() for part in ("-c", f"{key}={json.dumps(value)}")]
    done = subprocess.run(
        ["node", f"{FOLDER}/node_modules/@openai/codex/bin/codex.js", "exec", "--skip-git-repo-check", *given, "Hi."],
        env={"PATH": os.environ["PATH"], "HOME": f"{FOLDER}/home"}, cwd=f"{FOLDER}/work", stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120,
    )
    said = "idle timeout" if "idle timeout" in done.stdout + done.stderr else done.stdout.strip()
    print(f"{name} for 9 s where 3 s are allowed: {said}", flush=True)
    server.shutdown()
PYTHON
python3 "$folder/show.py" "$folder" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
nothing for 9 s where 3 s are allowed: idle timeout
comments for 9 s where 3 s are allowed: idle timeout
response.in_progress for 9 s where 3 s are allowed: Hello.
an unknown event for 9 s where 3 s are allowed: Hello.
SEEN
