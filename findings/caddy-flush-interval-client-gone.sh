#!/usr/bin/env bash
# Caddy 2.6.2 (Debian 12): with `flush_interval -1`, the setting that is recommended for streams of language models, a
# client that leaves before its answer begins is not told to the server behind it.
#
# One would expect the same as without it: the connection behind is closed, and the server, which is at work on a long
# prompt or on an answer that is not streamed, stops. With -1 Caddy keeps it open, waiting for nobody. Events need no
# such setting: `text/event-stream` is flushed at once anyway, as the pieces here show, which come in time either way.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill ${running:-} 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq caddy=2.6.2-5 2>log || { cat log >&2; exit 1; }
dpkg-deb -x caddy_*.deb caddy
export XDG_CONFIG_HOME="$folder" XDG_DATA_HOME="$folder"

cat > server.py <<'PYTHON'
"""Streams five events a second; to `/slow` it says nothing for five seconds, and writes whether its client stayed."""
import select
import socket
import sys
import threading
import time


def answer(client):
    if b"/slow" in client.recv(65536):
        ready, _, _ = select.select([client], [], [], 5)
        with open(sys.argv[2], "w") as file:
            file.write("closed" if ready else "kept open")
    else:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for _ in range(10):
            client.sendall(b"data: a token\n\n")
            time.sleep(0.2)
    client.close()


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
PYTHON
cat > client.py <<'PYTHON'
"""Takes a stream; then asks for something slow, and leaves."""
import http.client
import sys
import time

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.request("GET", "/")
answer = connection.getresponse()
began = time.monotonic()
pieces = [answer.read1() for _ in range(3)]
print("pieces come", "in time," if time.monotonic() - began < 1.5 else "late,", end=" ")
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.request("GET", "/slow")
time.sleep(1)
connection.close()
PYTHON
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

try() { # $1: what the proxy is told
    local behind front n
    behind=$(free) front=$(free)
    printf '{\n\tadmin off\n\tauto_https off\n}\nhttp://127.0.0.1:%s {\n\treverse_proxy 127.0.0.1:%s {\n\t\t%s\n\t}\n}\n' \
        "$front" "$behind" "$1" > Caddyfile
    rm -f told
    python3 server.py "$behind" "$folder/told" &
    running=$!
    caddy/usr/bin/caddy run --config Caddyfile 2>log &
    running="$running $!"
    for n in $(seq 50); do if (exec 3<>"/dev/tcp/127.0.0.1/$front") 2>/dev/null; then break; fi; sleep 0.1; done
    python3 client.py "$front"
    for n in $(seq 100); do if [ -s told ]; then break; fi; sleep 0.1; done
    echo "the connection behind is $(cat told)"
    kill $running
    wait $running 2>/dev/null || true
}
{
    echo "without: $(try '')"
    echo "-1: $(try 'flush_interval -1')"
} | tee seen
diff seen - <<'SEEN'
without: pieces come in time, the connection behind is closed
-1: pieces come in time, the connection behind is kept open
SEEN
