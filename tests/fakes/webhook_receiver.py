"""A receiver of webhooks on loopback, which answers what a test wants it to."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

Answer = Callable[["Hook"], int | tuple[int, dict[str, str]]]


@dataclass(frozen=True)
class Hook:
    """One request, as it came."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return msgspec.json.decode(self.body, type=dict[str, Any])

    @property
    def id(self) -> str:
        return str(self.event["id"])

    @property
    def type(self) -> str:
        return str(self.event["type"])

    @property
    def object(self) -> str:
        return str(self.event["data"]["id"])


def fine(hook: Hook) -> int:
    return 204


@dataclass
class Receiver:
    """``answer`` says with which status, and headers, a request is answered; ``hooks`` are all that came."""

    answer: Answer = fine
    hooks: list[Hook] = field(default_factory=list)
    port: int = 0
    arrived: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?from=janflask"

    @property
    def types(self) -> list[str]:
        return [hook.type for hook in self.hooks]

    def wait(self, number: int, timeout: float = 30.0) -> list[Hook]:
        """So many requests, or a TimeoutError that tells what came."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: len(self.hooks) >= number, timeout):
                raise TimeoutError(f"{len(self.hooks)} of {number}: {self.types}")
            return list(self.hooks)

    def stays_at(self, number: int, seconds: float = 1.0) -> None:
        """Nothing more comes for a while."""
        time.sleep(seconds)
        assert len(self.hooks) == number, self.types


@contextlib.contextmanager
def receiving(answer: Answer = fine, port: int = 0) -> Iterator[Receiver]:
    receiver = Receiver(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            hook = Hook(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            answered = receiver.answer(hook)
            status, headers = answered if isinstance(answered, tuple) else (answered, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            with receiver.arrived:  # before its sender goes on with the next one
                receiver.hooks.append(hook)
                receiver.arrived.notify_all()
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            return  # the sender was cut

    with Server(("127.0.0.1", port), Handler) as server:
        receiver.port = server.server_port
        thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
