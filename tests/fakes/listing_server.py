"""A small real HTTP server that lists models as OpenAI-compatible servers do, for tests of what asks it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fakes.openai_server import running

# Entries of GET /v1/models: vLLM 0.33.0, llama.cpp of llama-cpp-python 0.3.36, that one's own server, janflask 0.1.0.
VLLM: dict[str, Any] = {
    "id": "org/Big",
    "object": "model",
    "created": 1_795_946_819,
    "owned_by": "vllm",
    "root": "org/Big",
    "parent": None,
    "max_model_len": 32768,
    "permission": [{"id": "modelperm-1", "object": "model_permission", "is_blocking": False}],
}
LLAMA_SERVER: dict[str, Any] = {
    "id": "big.gguf",
    "aliases": ["big"],
    "tags": [],
    "object": "model",
    "created": 1_795_946_819,
    "owned_by": "llamacpp",
    "meta": {"vocab_type": 2, "n_vocab": 49152, "n_ctx": 4096, "n_ctx_train": 8192, "n_embd": 576},
}
LLAMA_CPP_PYTHON: dict[str, Any] = {"id": "smol", "object": "model", "owned_by": "me", "permissions": []}
JANFLASK: dict[str, Any] = {
    "id": "smol",
    "folder": "smol",
    "object": "model",
    "owned_by": "local",
    "status": "running",
    "settings": {"ctx_len": 8192},
    "parameters": {},
    "metadata": {"size": 1, "context_length": 8192},
    "download": None,
}
OPENAI: dict[str, Any] = {"id": "gpt-x", "object": "model", "created": 1_795_946_819, "owned_by": "system"}


class FakeOpenAI:
    """Answers ``GET /v1/models`` with ``models``, and what stands in ``answers``; wants ``key`` if that is set.

    ``answers``: path -> (status, headers, body). ``asked``: the paths of all requests, each with its Authorization.
    """

    def __init__(self, *models: dict[str, Any], key: str | None = None) -> None:
        self.models = list(models)
        self.key = key
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.url = ""

    def answer(self, path: str, authorization: str | None) -> tuple[int, dict[str, str], bytes]:
        """What a request gets."""
        self.asked.append((path, authorization))
        if path in self.answers:
            return self.answers[path]
        if self.key is not None and authorization != f"Bearer {self.key}":
            return 401, {}, b'{"error": "Unauthorized"}'  # vLLM's form
        if path == "/v1/models":
            return 200, {}, json.dumps({"object": "list", "data": self.models}).encode()
        return 404, {}, b'{"detail": "Not Found"}'


class _Handler(BaseHTTPRequestHandler):
    fake: FakeOpenAI

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        status, headers, body = self.fake.answer(self.path, self.headers.get("Authorization"))
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is what some tests are about."""


@contextmanager
def listing_server(
    *models: dict[str, Any], key: str | None = None, tls: bool = False, host: str = "127.0.0.1"
) -> Iterator[FakeOpenAI]:
    """A running one on a free port; with ``tls`` by CERTIFICATE, its own authority, for localhost and 127.0.0.1."""
    fake = FakeOpenAI(*models, key=key)
    server = _Server((host, 0), type("Handler", (_Handler,), {"fake": fake}))
    fake.url = f"{'https' if tls else 'http'}://{host}:{server.server_address[1]}/v1"
    with running(server, secure=tls):
        yield fake


@contextmanager
def speaking(data: bytes) -> Iterator[str]:
    """The base URL of a server that says ``data`` to whoever connects, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        thread.join()
