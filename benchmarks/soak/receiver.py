"""Who is told by webhooks: looks whether what happens to each thread comes in its order, and refuses some at first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai

from benchmarks.harness import ROOT

REFUSED = 50  # each so-many-th event is refused when it comes first
LIMIT = 60.0  # seconds for the command


class Receiver(ThreadingHTTPServer):
    """Listens on loopback. ``problems`` are what was not as it should be."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.secret = ""
        self.told: Counter[str] = Counter()
        self.problems: list[str] = []
        self._seen: set[str] = set()
        self._state: dict[str, str] = {}  # of each thread, what was told of it last
        self._lock = threading.Lock()

    def take(self, body: bytes, headers: dict[str, str]) -> int:
        """The status for a delivery. Raises openai.InvalidWebhookSignatureError for what is not from here."""
        openai.OpenAI(api_key="none", webhook_secret=self.secret).webhooks.verify_signature(body, headers)
        event = json.loads(body)
        with self._lock:
            is_new = event["id"] not in self._seen
            self._seen.add(event["id"])
            if is_new and len(self._seen) % REFUSED == 0:
                return 503
            self.told[event["type"]] += 1
            kind, what = event["type"], event["data"]["id"]
            if kind.startswith("thread.") and kind.count(".") == 1:
                self._follow(what, kind.partition(".")[2])
        return 204

    def _follow(self, thread_id: str, now: str) -> None:
        before = self._state.get(thread_id)
        if (before is None) != (now == "created") or before == "deleted":
            self.problems.append(f"a webhook tells that {thread_id} is {now} after it was {before}")
        self._state[thread_id] = now

    def missing(self) -> list[str]:
        """What was never told, where all threads have been deleted."""
        left = [name for name, state in self._state.items() if state != "deleted"]
        return [f"webhooks never told of the end of {len(left)} threads: {left[:3]}"] if left else []


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """One delivery."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            status = self.server.take(body, dict(self.headers.items()))
        except (openai.OpenAIError, ValueError) as error:
            self.server.problems.append(f"a webhook cannot be read: {error!r}")
            status = 400
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def receiving(data: Path) -> Iterator[Receiver]:
    """One that the server of this data folder will tell of all threads and responses."""
    with Receiver() as receiver:
        url = f"http://127.0.0.1:{receiver.server_port}/"
        events = ["--event", "thread.*", "--event", "response.*"]
        command = [sys.executable, "-m", "janflask.cli", "webhooks", "add", url, "--allow-private", "--json", *events]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"JANFLASK_DATA_DIR": str(data)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=LIMIT,
        )
        receiver.secret = json.loads(done.stdout)["secret"]
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,), name="receiver", daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()
