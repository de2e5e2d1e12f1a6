#!/usr/bin/env bash
# gunicorn 27.0.1: SIGUSR2, the upgrade without a pause, fails for every Flask application if gunicorn was started by `python -m gunicorn`.
#
# The second master is started with `sys.argv`, whose first word is then gunicorn's own `__main__.py`. A program that is started
# by its file finds modules beside that file first, and beside this one lies gunicorn's package `http`: werkzeug's
# `from http.server import ...` gets that one. The first master, and one started by the script `gunicorn`, work.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "gunicorn==27.0.1" "werkzeug==3.1.9" 2>"$folder/pip" || { cat "$folder/pip" >&2; exit 1; }
cd "$folder"
cat > app.py <<'PYTHON'
from werkzeug import Response

app = Response("hello")
PYTHON
upgraded() { # a command that starts gunicorn: what becomes of its second master
    "$@" -b 127.0.0.1:0 --no-control-socket app:app 2>log &
    server=$!
    for _ in $(seq 100); do grep -q "Booting worker" log && break; sleep 0.1; done
    sleep 1
    kill -USR2 "$server"
    for _ in $(seq 100); do grep -q "Worker failed to boot" log && break; [ "$(grep -c "Booting worker" log)" = 2 ] && sleep 2 && break; sleep 0.1; done
    sleep 1
    grep -o "No module named 'http.server'\$" log | sort -u || echo "the second master serves"
    kill $(pgrep -P "$server") "$server" 2>/dev/null || true
    wait "$server" || true
}
{
    echo "gunicorn: $(upgraded venv/bin/gunicorn)"
    echo "python -m gunicorn: $(upgraded venv/bin/python -m gunicorn)"
} | tee seen
diff seen - <<'SEEN'
gunicorn: the second master serves
python -m gunicorn: No module named 'http.server'
SEEN
