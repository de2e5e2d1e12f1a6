#!/usr/bin/env bash
# gunicorn 27.0.1, threads (gthread): HTTP/2 carries out the requests of a connection one after the other.
#
# HTTP/2 is chosen because one connection carries many requests at once, and browsers and SDKs open one for all. gunicorn's
# threaded worker gives the whole connection to one thread, which reads a request, answers it, and only then reads on. So a
# short request waits for the stream beside it, also the one that is to cancel it; a client that gives a stream up
# (RST_STREAM) is not heard before the stream has ended by itself; and a client that only stays connected holds a thread
# for the keep-alive time.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "gunicorn[http2]==27.0.1" "httpx[http2]==0.28.1" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cd "$folder"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext "subjectAltName=DNS:localhost" 2>/dev/null
cat > app.py <<'PYTHON'
import time


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return stream() if environ["PATH_INFO"] == "/stream" else [b"short"]


def stream():
    for _ in range(20):
        yield b"word "
        time.sleep(0.1)
PYTHON
cat > show.py <<'PYTHON'
import asyncio
import ssl
import sys
import time

import gunicorn
import httpx

URL = f"https://localhost:{sys.argv[1]}"


async def main() -> None:
    trusted = ssl.create_default_context(cafile="cert.pem")
    async with httpx.AsyncClient(http2=True, verify=trusted, timeout=30) as client:
        print("gunicorn", gunicorn.__version__, "speaks", (await client.get(URL)).http_version)
        async with client.stream("GET", URL + "/stream") as answer:
            await anext(answer.aiter_bytes())
            begun = time.monotonic()
            await client.get(URL)
            waited = time.monotonic() - begun > 1
            print("a short request beside a stream of two seconds:", "waits for its end" if waited else "is answered")
        async with client.stream("GET", URL + "/stream") as answer:
            await anext(answer.aiter_bytes())
        begun = time.monotonic()
        await client.get(URL)
        waited = time.monotonic() - begun > 1
        print("a stream that its client gave up at once:", "goes on to its end" if waited else "ends")


asyncio.run(main())
PYTHON
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/gunicorn" -k gthread --threads 4 --http-protocols h2,h1 --certfile cert.pem --keyfile key.pem -b "127.0.0.1:$port" --no-control-socket app:app 2>"$folder/log" &
server=$!
for _ in $(seq 100); do if curl -s --cacert cert.pem "https://localhost:$port/" >/dev/null; then break; fi; sleep 0.1; done
"$folder/venv/bin/python" "$folder/show.py" "$port" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
gunicorn 27.0.1 speaks HTTP/2
a short request beside a stream of two seconds: waits for its end
a stream that its client gave up at once: goes on to its end
SEEN
