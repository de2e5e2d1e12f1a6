"""A small real HTTP server that answers like janflask does, for the command line's tests."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RUNNING = {
    "id": "tiny",
    "object": "model",
    "name": "Tiny",
    "description": "",
    "created": 1_700_000_000,
    "state": "running",
    "status": "running",
    "error": None,
    "notes": ["runs without repacked weights"],
    "settings": {"ctx_len": 2048, "prompt_template": ""},
    "parameters": {"temperature": 0.7},
    "metadata": {
        "size": 98_362_432,
        "quantization": "Q4_1",
        "description": "llama 135M Q4_1",
        "parameter_count": 134_515_008,
        "context_length": 8192,
    },
    "runtime": {
        "ctx_len": 2048,
        "n_parallel": 8,
        "kv_cells": 16384,
        "knobs": {
            "flash_attn": False,
            "kv_unified": True,
            "slice_size": 64,
            "cpu_threads": 2,
            "source": "measured",
            "measurements": {"flash on": 9.4, "flash off": 13.0},
        },
        "load_seconds": 1.25,
        "started_at": 1_700_000_000,
        "restarts": 1,
        "llama_version": "0.3.36",
        "pid": 4711,
        "memory_bytes": 412_000_000,
        "used_bytes": 150_000_000,
    },
    "stats": {
        "slots": 8,
        "busy": 3,
        "waiting": 1,
        "kv_cells": 16384,
        "kv_used": 512,
        "generated_tokens": 90,
        "prompt_tokens": 80,
        "cached_tokens": 70,
        "idle_seconds": 0.0,
    },
}
STOPPED = {"id": "other", "object": "model", "status": "downloaded", "state": "downloaded", "metadata": {"size": 1234}}


class FakeServer:
    """Answers to /v1/models and what is below it, and to completions; keeps what it was asked.

    ``answers`` are the chat answers in order, each a list of what is streamed: str is a piece of text, dict an event,
    bytes go as they are. An answer that ends in HANG waits until the client closes; with BREAK the connection ends in
    the middle; without DONE it just ends. ``events`` are the same for the connections to a model's events, where an
    int is an HTTP status to refuse with. ``refusals`` are answers to "METHOD path" instead of the usual ones.
    """

    HANG = object()
    DONE = object()
    BREAK = object()

    def __init__(self) -> None:
        self.models = {"tiny": RUNNING, "other": STOPPED}
        self.answers: list[list[object]] = []
        self.events: list[list[object]] = []
        self.runs: list[list[object]] = []  # as ``answers``, of the thread t1
        self.refusals: dict[str, tuple[int, dict[str, Any]]] = {}
        self.hanging = threading.Event()
        self.timings: dict[str, float] | None = None  # of every completion; None: 10 ms of prompt, 8 a token
        self.requests: list[tuple[str, str, Any]] = []
        self.client_gone = threading.Event()
        self.start_error: tuple[int, dict[str, Any]] | None = None
        self.url = ""

    @property
    def chats(self) -> list[dict[str, Any]]:
        """The bodies of the chat requests so far."""
        return [body for _, path, body in self.requests if path == "/v1/chat/completions"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.fake.requests.append((self.command, self.path, body))
        parts = self.path.removeprefix("/v1/").split("/")
        if refusal := self.fake.refusals.get(f"{self.command} {self.path}"):
            self._json(*refusal)
        elif self.path == "/v1/chat/completions":
            self._stream(self.fake.answers.pop(0))
        elif self.path == "/v1/threads/t1/runs":
            self._stream(self.fake.runs.pop(0))
        elif self.path == "/v1/threads/t1":
            self._json(200, {"id": "t1", "title": "Talk"})
        elif self.path == "/v1/completions":
            self._json(200, {"timings": self.fake.timings or _timings(body)})
        elif parts[2:] == ["events"]:
            self._events(self.fake.events.pop(0))
        elif self.path == "/v1/models" and self.command == "POST":
            self._json(200, {"id": body.get("id") or "fetched", "object": "model", "state": "downloading"})
        elif parts == ["models"]:
            self._json(200, {"object": "list", "data": list(self.fake.models.values())})
        elif parts[0] == "models" and parts[1] in self.fake.models:
            self._model(parts, body)
        else:
            self._json(404, {"error": {"message": f"there is no {self.path}", "code": "model_not_found"}})

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _answer

    def _events(self, script: list[object]) -> None:
        if script and isinstance(script[0], int):
            self._json(script[0], {"error": {"message": f"refused with {script[0]}"}})
        else:
            self._stream(script)

    def _model(self, parts: list[str], body: Any) -> None:
        if self.command == "DELETE":
            del self.fake.models[parts[1]]
            self._json(200, {"id": parts[1], "object": "model", "deleted": True})
        elif self.command == "PATCH":
            model = self.fake.models[parts[1]]
            changed = {
                name: {**model.get(name, {}), **given} for name, given in body.items() if isinstance(given, dict)
            }
            self._json(200, {**model, **body, **changed})
        elif parts[2:] == ["start"] and self.fake.start_error is not None:
            self._json(*self.fake.start_error)
        elif parts[2:]:
            state = {"start": "running", "stop": "stopped"}[parts[2]]
            self.fake.models[parts[1]] = {**self.fake.models[parts[1]], "status": state}
            self._json(200, {"id": parts[1], "object": "model", "state": state})
        else:
            self._json(200, self.fake.models[parts[1]])

    def _json(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, pieces: list[object]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            if piece is FakeServer.BREAK:
                self.close_connection = True
                return
            if piece is FakeServer.HANG:
                self.fake.hanging.set()
                self.connection.recv(1)
                self.fake.client_gone.set()
                self.close_connection = True
                return
            self._chunk(self._event(piece))
        self._chunk(b"")

    def _event(self, piece: object) -> bytes:
        if isinstance(piece, bytes):
            return piece
        if piece is FakeServer.DONE:
            return b"data: [DONE]\n\n"
        if isinstance(piece, dict):
            return f"data: {json.dumps(piece)}\n\n".encode()
        chunk = {"choices": [{"index": 0, "delta": {"content": piece}}]}
        return f"data: {json.dumps(chunk)}\n\n".encode()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def _timings(body: dict[str, Any]) -> dict[str, float]:
    prompt, predicted = len(body["prompt"]), body["max_tokens"]
    predicted_ms = 8.0 * (predicted - 1)
    return {"prompt_n": prompt, "prompt_ms": 10.0, "predicted_n": predicted, "predicted_ms": predicted_ms}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that leaves is what some tests are about
            super().handle_error(request, client_address)


@contextmanager
def serving() -> Iterator[FakeServer]:
    """A running ``FakeServer`` on a free port."""
    fake = FakeServer()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
