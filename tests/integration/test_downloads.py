"""Downloads against a real HTTP server that misbehaves."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from janflask.downloads.fetch import Fetch, Limits, RemoteFile, SourceError, SourceUnavailableError
from janflask.downloads.safety import UnsafeSourceError, Web, is_public

BODY = b"GGUF" + random.Random(4).randbytes(2_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = Limits(back_off=0.001, stall_timeout=5.0, tries=3)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))
        mode = self.path.strip("/")
        self.close_connection = True
        if mode.isdecimal():
            self.answer(int(mode), b"")
        elif mode == "html":
            self.answer(200, b"<html>", {"Content-Type": "text/html"})
        elif mode == "nogguf":
            self.answer(200, b"something else")
        elif mode == "loop":
            self.answer(302, b"", {"Location": "/loop"})
        elif mode == "tofile":
            self.answer(302, b"", {"Location": "file:///etc/passwd"})
        else:
            self.give(mode)

    def give(self, mode: str) -> None:
        start = 0
        etag = f'"{len(self.server.asked)}"' if mode == "changes" else '"one"'
        wanted = self.headers.get("Range")
        if wanted and mode != "norange" and self.headers.get("If-Range") == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        headers = {"ETag": etag}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        cut = len(BODY)
        if mode == "never":
            cut = start
        elif mode != "whole" and len(self.server.asked) < 3:
            cut = min(len(BODY), start + 700_000)
        self.answer(206 if start else 200, BODY[start:cut], headers, len(BODY) - start)

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.asked = []
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def fetch(
    server: ThreadingHTTPServer, mode: str, folder: Path, sha256: str | None = None, private: bool = True
) -> Fetch:
    url = f"http://127.0.0.1:{server.server_port}/{mode}"
    web = Web(allow_private=private, timeout=5.0)
    return Fetch(RemoteFile(url, "m.gguf", sha256=sha256), folder, web, QUICK, lambda have, total: None)


@pytest.mark.parametrize("mode", ["whole", "closes", "norange", "changes"])
def test_the_file_arrives_whole(server: ThreadingHTTPServer, tmp_path: Path, mode: str) -> None:
    download = fetch(server, mode, tmp_path)
    assert download.run() == SHA256
    assert download.path.read_bytes() == BODY
    if mode == "closes":
        assert server.asked == [None, "bytes=700000-", "bytes=1400000-"]


@pytest.mark.parametrize("mode", ["401", "403", "404", "html", "nogguf", "loop", "tofile"])
def test_what_cannot_work_leaves_nothing(server: ThreadingHTTPServer, tmp_path: Path, mode: str) -> None:
    with pytest.raises((SourceError, UnsafeSourceError)):
        fetch(server, mode, tmp_path).run()
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_hash_leaves_nothing(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="sha256"):
        fetch(server, "whole", tmp_path, sha256="0" * 64).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["429", "500", "never"])
def test_what_keeps_failing_is_tried_three_times(server: ThreadingHTTPServer, tmp_path: Path, mode: str) -> None:
    with pytest.raises(SourceUnavailableError):
        fetch(server, mode, tmp_path).run()
    assert len(server.asked) == 3


def test_a_private_address_is_refused_unasked(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(UnsafeSourceError, match="not a public address"):
        fetch(server, "whole", tmp_path, private=False).run()
    assert server.asked == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.1.1", "224.0.0.1", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "0.0.0.0"],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)
