"""A web server with one file on it, which can misbehave in every way that a download has to survive.

The first part of a URL's path is the way it behaves: ``/whole/m.gguf``, ``/closes/m.gguf``, ``/503/m.gguf``, ...
"""

from __future__ import annotations

import email.utils
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("localhost.pem")  # for localhost and 127.0.0.1, with its key
PIECE = 16 * 1024  # bytes sent at once


def gguf(size: int, seed: int = 4) -> bytes:
    """A small model's header and about ``size`` bytes of weights that mean nothing."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.file_type") + struct.pack("<II", 4, 0),
        text("llama.context_length") + struct.pack("<II", 4, 2048),
    ]
    weights = max(1, size // 4)
    tensor = text("token_embd.weight") + struct.pack("<IQIQ", 1, weights, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    return head + bytes(-len(head) % 32) + random.Random(seed).randbytes(4 * weights)


class FileServer:
    """``asked``: the Range of each GET, None where there was none. ``served``: bytes of bodies that were sent."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.other = gguf(len(body), seed=5)  # what the file changes to
        self.asked: list[str | None] = []
        self.headers: list[dict[str, str]] = []
        self.served = 0
        self.cut = 300_000  # bytes after which an answer ends early, where it does
        self.pause = 0.0  # seconds between two pieces
        self.elsewhere = ""  # where "redirects" leads
        self.retry_after: str | None = None
        self.hold = threading.Event()  # set: what waits in "held" goes on
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self.origin = ""

    def url(self, way: str, name: str = "m.gguf") -> str:
        return f"{self.origin}/{way}/{name}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        files = self.server.files
        with files.lock:
            files.asked.append(self.headers.get("Range"))
            files.headers.append(dict(self.headers))
        self.close_connection = True
        way = self.path.split("/")[1]
        act: Callable[[], None] | None = getattr(self, f"do_{way}", None)
        with suppress(ConnectionError):
            if way.isdecimal():
                more = {"Retry-After": files.retry_after} if files.retry_after else {}
                self.send(int(way), b"", more)
            elif act is not None:
                act()
            else:
                raise ValueError(way)

    # --- well-behaved -----------------------------------------------------------------------------------------------

    def do_whole(self) -> None:
        self.give()

    def do_stamped(self) -> None:
        self.give(etag=None, cut=self.first_times(1), modified=email.utils.formatdate(0, usegmt=True))

    def do_chunked(self) -> None:
        self.head(200, {"Transfer-Encoding": "chunked", "ETag": '"one"'})
        body = self.server.files.body
        cut = self.first_times(1)
        for start in range(0, len(body), PIECE):
            if cut is not None and start > cut:
                return
            piece = body[start : start + PIECE]
            self.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.write(b"0\r\n\r\n")

    def do_held(self) -> None:
        """Half of it, and the rest when it is told to."""
        self.give(hold_at=len(self.server.files.body) // 2)

    # --- misbehaved, but the file can be had ------------------------------------------------------------------------

    def do_closes(self) -> None:
        self.give(cut=self.first_times(3))

    def do_norange(self) -> None:
        self.give(cut=self.first_times(1), ranges=False)

    def do_novalidator(self) -> None:
        self.give(cut=self.first_times(1), etag=None)

    def do_changes(self) -> None:
        """Another file from the second answer on, and honest about it."""
        first = len(self.server.files.asked) == 1
        self.give(body=None if first else self.server.files.other, cut=self.first_times(1), etag=f'"{first}"')

    def do_slyly(self) -> None:
        """Another file from the second answer on, and a range of it whatever If-Range says."""
        first = len(self.server.files.asked) == 1
        self.give(body=None if first else self.server.files.other, cut=self.first_times(1), etag=f'"{first}"', sly=True)

    def do_wrongrange(self) -> None:
        """The first range that is asked for is answered with another one."""
        self.give(cut=self.first_times(1), shift=7 if len(self.server.files.asked) == 2 else 0)

    def do_unsatisfied(self) -> None:
        """416 to every range."""
        if self.headers.get("Range"):
            self.send(416, b"", {"Content-Range": f"bytes */{len(self.server.files.body)}"})
        else:
            self.give(cut=self.first_times(1))

    def do_busy(self) -> None:
        """503 the first time."""
        if len(self.server.files.asked) == 1:
            self.send(503, b"", {"Retry-After": self.server.files.retry_after or "0"})
        else:
            self.give()

    # --- hopeless ---------------------------------------------------------------------------------------------------

    def do_never(self) -> None:
        self.give(cut=0)

    def do_claimsmore(self) -> None:
        self.give(lie=1000)

    def do_claimsless(self) -> None:
        self.give(lie=-1000)

    def do_empty(self) -> None:
        self.send(200, b"")

    def do_emptychunks(self) -> None:
        self.head(200, {"Transfer-Encoding": "chunked"})
        self.write(b"0\r\n\r\n")

    def do_nolength(self) -> None:
        self.head(200, {})
        self.write(self.server.files.body)

    def do_html(self) -> None:
        self.send(200, b"<html>", {"Content-Type": "text/html; charset=utf-8"})

    def do_disguised(self) -> None:
        self.send(200, b"<!doctype html><title>Sign in</title>" * 99, {"Content-Type": "application/octet-stream"})

    def do_almost(self) -> None:
        self.send(200, b"GGUF" + bytes(5000))

    def do_gzip(self) -> None:
        self.send(200, b"GGUF", {"Content-Encoding": "gzip"})

    def do_huge(self) -> None:
        self.head(200, {"Content-Length": str(1 << 50)})

    def do_loop(self) -> None:
        self.send(302, b"", {"Location": "/loop/m.gguf"})

    def do_tofile(self) -> None:
        self.send(302, b"", {"Location": "file:///etc/passwd"})

    def do_redirects(self) -> None:
        self.send(307, b"", {"Location": self.server.files.elsewhere})

    def do_trickles(self) -> None:
        self.head(200, {"Content-Length": str(len(self.server.files.body))})
        for start in range(len(self.server.files.body)):
            self.write(self.server.files.body[start : start + 1])
            if self.server.files.closing.wait(0.01):
                return

    def do_chunkhead(self) -> None:
        """The size of a chunk that never ends."""
        self.head(200, {"Transfer-Encoding": "chunked"})
        while not self.server.files.closing.wait(0.01):
            self.write(b"0")

    def do_slowhead(self) -> None:
        """Headers that never end."""
        self.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not self.server.files.closing.wait(0.01):
            self.write(b"x")

    def do_silent(self) -> None:
        self.server.files.closing.wait(60)

    def do_goesquiet(self) -> None:
        self.head(200, {"Content-Length": str(len(self.server.files.body))})
        self.write(self.server.files.body[:1000])
        self.server.files.closing.wait(60)

    # --- the ways to answer -----------------------------------------------------------------------------------------

    def first_times(self, times: int) -> int | None:
        """After how many bytes this answer ends: whole ones come once that many were cut."""
        return self.server.files.cut if len(self.server.files.asked) <= times else None

    def give(
        self,
        body: bytes | None = None,
        cut: int | None = None,
        etag: str | None = '"one"',
        modified: str | None = None,
        ranges: bool = True,
        sly: bool = False,
        lie: int = 0,
        shift: int = 0,
        hold_at: int | None = None,
    ) -> None:
        files = self.server.files
        body = files.body if body is None else body
        start, wanted = 0, self.headers.get("Range")
        if wanted and ranges and (sly or self.headers.get("If-Range") in (etag or modified, None)):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        headers = {name: value for name, value in (("ETag", etag), ("Last-Modified", modified)) if value}
        if start > len(body) or (start and start == len(body)):
            self.send(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            return
        if start:
            headers["Content-Range"] = f"bytes {start + shift}-{len(body) - 1}/{len(body)}"
        self.head(206 if start else 200, headers | {"Content-Length": str(len(body) - start + lie)})
        end = min(len(body) + min(0, lie), len(body) if cut is None else start + cut)
        for at in range(start, end, PIECE):
            if hold_at is not None and at >= hold_at:
                while not files.hold.wait(0.02):
                    if files.closing.is_set():
                        return
            self.write(body[at : min(at + PIECE, end)])
            if files.pause:
                time.sleep(files.pause)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.head(status, {"Content-Length": str(len(body)), **(headers or {})})
        self.write(body)

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def write(self, data: bytes) -> None:
        self.wfile.write(data)
        with self.server.files.lock:
            self.server.files.served += len(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    files: FileServer

    def get_request(self) -> tuple[socket.socket, object]:
        sock, address = super().get_request()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)  # "served" is then close to "received"
        return sock, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is none."""


@contextmanager
def serving(body: bytes, *, tls: bool = False) -> Iterator[FileServer]:
    """A server on a free port of 127.0.0.1 until the end of the block."""
    server = _Server(("127.0.0.1", 0), _Handler)
    files = server.files = FileServer(body)
    files.origin = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield files
    finally:
        files.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
