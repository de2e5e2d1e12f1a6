"""An OpenAI-compatible server that does what a test tells it, well or badly.

Each POST takes the next behaviour of ``script``, the last of which stays; GET /v1/models answers as long as ``well``.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fakes.file_server import CERTIFICATE

PATIENCE = 20.0  # seconds after which a fake gives up; no test waits for it unless something is wrong


@dataclass(frozen=True)
class Asked:
    """A request as it came, and the number of the connection that it came over."""

    path: str
    headers: dict[str, str]
    body: Any
    connection: int


@dataclass
class FakeUpstream:
    script: list[Callable[[Handler], None]]
    host: str = "127.0.0.1"
    port: int = 0
    secure: bool = False
    well: bool = True  # GET /v1/models answers
    tokens: int | None = None  # of every text, as POST /tokenize answers it; None: that is a part of the script, too
    asked: list[Asked] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)  # what is held goes on
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    held: int = 0  # answers that wait for ``release`` now
    left: int = 0  # answers whose client went away while they were held
    connections: int = 0

    @property
    def base_url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}/v1"

    @property
    def posts(self) -> list[Asked]:
        with self.lock:
            return [each for each in self.asked if each.body is not None]

    def next_behaviour(self) -> Callable[[Handler], None]:
        with self.lock:
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, fake: FakeUpstream, address: tuple[str, int]) -> None:
        self.fake = fake
        super().__init__(address, Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or trusts no certificate, is what tests want."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    body: Any = None  # of the POST that is answered now

    def setup(self) -> None:
        super().setup()
        with self.fake.lock:
            self.fake.connections += 1
            self.number = self.fake.connections

    def log_message(self, *_: object) -> None:
        pass

    @property
    def fake(self) -> FakeUpstream:
        return self.server.fake

    def do_GET(self) -> None:
        self._note(None)
        if not self.fake.well:
            status(500, "not well")(self)
        elif self.path == "/v1/models":
            self.json(200, {"object": "list", "data": [{"id": "far", "max_model_len": 4096}]})
        else:
            status(404, "no such route")(self)

    def do_POST(self) -> None:
        body = self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize" and self.fake.tokens is not None:
            self.json(200, {"tokens": list(range(self.fake.tokens))})
            return
        self._note(body)
        with suppress(ConnectionError):
            self.fake.next_behaviour()(self)

    def _note(self, body: Any) -> None:
        with self.fake.lock:
            self.fake.asked.append(Asked(self.path, dict(self.headers), body, self.number))

    def json(self, code: int, content: Any, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def begin(self, content_type: str = "text/event-stream; charset=utf-8") -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def raw(self, data: bytes) -> None:
        """A piece of the body."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def event(self, content: Any) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.raw(b"data: " + data + b"\n\n")

    def end(self) -> None:
        self.raw(b"")

    def hold(self) -> bool:
        """Waits for ``release``; false when the client went away instead."""
        with self.fake.lock:
            self.fake.held += 1
        try:
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline and not self.fake.closing.is_set():
                if self.fake.release.is_set():
                    return True
                if select.select([self.connection], [], [], 0.01)[0] and not self._peek():
                    with self.fake.lock:
                        self.fake.left += 1
                    return False
        finally:
            with self.fake.lock:
                self.fake.held -= 1
        return False

    def _peek(self) -> bytes:
        try:
            return self.connection.recv(1, 0 if self.fake.secure else socket.MSG_PEEK)
        except ConnectionError:
            return b""


def piece(text: str | None = None, index: int = 0, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a chat."""
    delta = {} if text is None else {"content": text}
    choice = {"index": index, "delta": delta, "finish_reason": reason, **more}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def call_piece(arguments: str = "", name: str | None = None, call: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk of a chat with a piece of a call; the first one of a call has its name, and ``id``."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": call, **more, "function": function}]}}]}


def text_piece(text: str, index: int = 0, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a completion."""
    return {"choices": [{"index": index, "text": text, "finish_reason": reason, **more}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}


def says(*words: str) -> Callable[[Handler], None]:
    """A whole answer."""

    def act(handler: Handler) -> None:
        handler.begin()
        for word in words:
            handler.event(piece(word))
        finish(handler)

    return act


def finish(handler: Handler) -> None:
    handler.event(piece(reason="stop"))
    handler.event(USAGE)
    done = b"data: [DONE]\n\n"
    handler.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(done), done))  # at once: the connection is free with it


def events(*contents: Any) -> Callable[[Handler], None]:
    """A stream of these, which ends as HTTP has it."""

    def act(handler: Handler) -> None:
        handler.begin()
        for content in contents:
            handler.event(content)
        handler.end()

    return act


def holds(*words: str) -> Callable[[Handler], None]:
    """Says some words, and the end when it is told to."""

    def act(handler: Handler) -> None:
        handler.begin()
        for word in words:
            handler.event(piece(word))
        if handler.hold():
            finish(handler)
        handler.close_connection = True

    return act


def silent(handler: Handler) -> None:
    """No answer at all."""
    handler.hold()
    handler.close_connection = True


def breaks(*said: str | dict[str, Any]) -> Callable[[Handler], None]:
    """Some words or events, then the connection is gone."""

    def act(handler: Handler) -> None:
        handler.begin()
        for word in said:
            handler.event(piece(word) if isinstance(word, str) else word)
        handler.close_connection = True

    return act


def hangs_up(handler: Handler) -> None:
    """The connection is reset before a word."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def closes_after(act: Callable[[Handler], None]) -> Callable[[Handler], None]:
    """Closes the connection behind the answer without having said so, as servers do when one is idle for long."""

    def then_close(handler: Handler) -> None:
        act(handler)
        handler.close_connection = True

    return then_close


def status(code: int, message: str = "", **headers: str) -> Callable[[Handler], None]:
    def act(handler: Handler) -> None:
        handler.json(code, {"error": {"message": message, "type": "x", "code": None}}, **headers)

    return act


def answers(content: Any, code: int = 200, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.json(code, content, **headers)


@contextmanager
def serving(
    script: Sequence[Callable[[Handler], None]], *, host: str = "127.0.0.1", port: int = 0, secure: bool = False
) -> Iterator[FakeUpstream]:
    fake = FakeUpstream(list(script), host=host, secure=secure)
    server = _Server(fake, (host, port))
    fake.port = server.server_address[1]
    with running(server, secure=secure):
        try:
            yield fake
        finally:
            fake.closing.set()


@contextmanager
def running(server: ThreadingHTTPServer, *, secure: bool) -> Iterator[None]:
    """``server`` in a thread until the end of the block; ``secure``: by CERTIFICATE, which is its own authority."""
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
