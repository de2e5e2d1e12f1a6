#!/usr/bin/env bash
# gunicorn 27.0.1, threads (gthread): a worker takes connections although all its threads are at work.
#
# One would expect such a request to go to the worker beside it, which has nothing to do. It is whoever wakes first who
# accepts, up to `worker_connections` (1,000), and what was accepted waits there for a thread, however long: behind
# streams, for hours. Here two workers have two threads each, three of the four are in use, and requests time out.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "gunicorn==27.0.1" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cd "$folder"
cat > app.py <<'PYTHON'
import time


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return stream() if environ["PATH_INFO"] == "/stream" else [b"short"]


def stream():
    yield b"word"
    time.sleep(20)
PYTHON
cat > show.py <<'PYTHON'
import http.client
import sys


def ask(path):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=3)
    connection.request("GET", path)
    connection.getresponse().read1()
    return connection


waits = False
try:
    streams = [ask("/stream") for _ in range(3)]  # three of the four threads
    for _ in range(20):
        ask("/")
except TimeoutError:
    waits = True
print("with a thread left, a request", "waits behind a stream" if waits else "is answered")
PYTHON
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/gunicorn" -k gthread --workers 2 --threads 2 -b "127.0.0.1:$port" --no-control-socket app:app 2>"$folder/log" &
server=$!
for _ in $(seq 100); do if curl -s "http://127.0.0.1:$port/" >/dev/null; then break; fi; sleep 0.1; done
sleep 1
"$folder/venv/bin/python" "$folder/show.py" "$port" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
with a thread left, a request waits behind a stream
SEEN
