"""A stand-in of the Hugging Face hub: the part of its API that names a repository's files, and the files themselves.

A file's ``resolve`` URL redirects to ``/cdn/<sha256>``, as the hub does for large files; that answers ranges, with the
sha256 as the validator. A repository can be gated, private, or answer nothing but an error.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_the_right_token"
_API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(slots=True)
class Repository:
    """``files`` are all there is in each of its ``revisions`` (name -> commit)."""

    name: str
    files: dict[str, bytes]
    revisions: dict[str, str]
    author: str | None = None
    tags: list[str] = field(default_factory=list)
    gated: str | bool = False  # "manual" or "auto": everybody sees the names, the token's owner gets the files
    private: bool = False  # whoever lacks the token is told that there is none
    plain_git: bool = False  # the files are in git itself, so that the API knows no sha256
    fault: int | str | None = None  # a status that the API answers, or "html", "nonsense", "silence"

    @property
    def commit(self) -> str:
        return self.revisions["main"]

    def described(self, commit: str) -> dict[str, Any]:
        siblings = []
        for path, data in self.files.items():
            sibling: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
            if not self.plain_git:
                sha256 = hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        return {
            "_id": "65f0",
            "id": self.name,
            "modelId": self.name,
            "author": self.author,
            "sha": commit,
            "private": self.private,
            "gated": self.gated,
            "tags": self.tags,
            "siblings": siblings,
        }


class FakeHub:
    """What is on the hub, and what was asked of it. ``endpoint`` is what HF_ENDPOINT would be."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.repositories: dict[str, Repository] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []  # path with query, headers in lower case
        self.closing = threading.Event()
        self.bytes_sent = 0  # of files
        self._rate = 0

    def slow_down(self, bytes_per_second: int) -> None:
        """Files come no faster from now on."""
        self._rate = bytes_per_second

    def sends(self, write: Callable[[bytes], object], data: bytes) -> None:
        """A file's bytes, as fast as they may be."""
        block = max(1, self._rate // 20) if self._rate else max(1, len(data))
        for start in range(0, len(data), block):
            piece = data[start : start + block]
            write(piece)
            self.bytes_sent += len(piece)
            if self._rate and self.closing.wait(0.05):
                return

    def add(self, name: str, files: dict[str, bytes], **about: Any) -> Repository:
        commit = hashlib.sha1(name.encode()).hexdigest()
        repository = Repository(name, files, {"main": commit}, author=name.split("/")[0])
        for key, value in about.items():
            setattr(repository, key, value)
        self.repositories[name.lower()] = repository
        return repository

    def paths_asked(self) -> list[str]:
        return [path for path, _ in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.server.hub
        hub.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.close_connection = True
        path = urlsplit(self.path).path
        if found := _API.fullmatch(path):
            self.answer_api(unquote(found[1]), unquote(found[2] or "main"))
        elif found := _RESOLVE.fullmatch(path):
            self.answer_resolve(unquote(found[1]), unquote(found[2]), unquote(found[3]))
        elif path.startswith("/cdn/"):
            self.answer_content(path.removeprefix("/cdn/"))
        else:
            self.refuse(404, None, "not found")

    def has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def answer_api(self, name: str, revision: str) -> None:
        repository = self.server.hub.repositories.get(name.lower())
        if repository is None or (repository.private and not self.has_token()):
            self.refuse(404 if self.has_token() else 401, "RepoNotFound", "Repository not found")
        elif repository.fault is not None:
            self.answer_fault(repository.fault)
        elif revision not in {*repository.revisions, *repository.revisions.values()}:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            described = repository.described(repository.revisions.get(revision, revision))
            self.answer(200, json.dumps(described).encode(), {"Content-Type": "application/json"})

    def answer_fault(self, fault: int | str) -> None:
        if fault == "html":
            self.answer(200, b"<html>Down for maintenance</html>", {"Content-Type": "text/html"})
        elif fault == "nonsense":
            self.answer(200, b'{"id": 1, "siblings": [{"name": "x"}]}', {"Content-Type": "application/json"})
        elif fault == "silence":
            self.server.hub.closing.wait(30)
        else:
            self.refuse(int(fault), None, "as the test wants", {"Retry-After": "7"} if fault == 429 else {})

    def answer_resolve(self, name: str, revision: str, path: str) -> None:
        repository = self.server.hub.repositories.get(name.lower())
        if repository is None or (repository.private and not self.has_token()):
            self.refuse(401, "RepoNotFound", "Repository not found")
        elif repository.gated and not self.has_token():
            status = 403 if "Authorization" in self.headers else 401
            self.refuse(status, "GatedRepo", f"Access to model {name} is restricted")
        elif revision not in {*repository.revisions, *repository.revisions.values()}:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif path not in repository.files:
            self.refuse(404, "EntryNotFound", "Entry not found")
        else:
            sha256 = hashlib.sha256(repository.files[path]).hexdigest()
            self.answer(302, b"", {"Location": f"/cdn/{sha256}", "X-Repo-Commit": repository.commit})

    def answer_content(self, sha256: str) -> None:
        contents = (data for repository in self.server.hub.repositories.values() for data in repository.files.values())
        data = next((data for data in contents if hashlib.sha256(data).hexdigest() == sha256), None)
        if data is None:
            self.refuse(404, None, "not found")
            return
        headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        if wanted is None or self.headers.get("If-Range", headers["ETag"]) != headers["ETag"]:
            self.answer(200, data, headers)
            return
        start, end = int(wanted[1]), int(wanted[2] or len(data) - 1)
        if start >= len(data):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{min(end, len(data) - 1)}/{len(data)}"
        self.answer(206, data[start : end + 1], headers)

    def refuse(self, status: int, code: str | None, message: str, headers: dict[str, str] | None = None) -> None:
        more = {"X-Error-Message": message, "Content-Type": "application/json", **(headers or {})}
        if code is not None:
            more["X-Error-Code"] = code
        self.answer(status, json.dumps({"error": message}).encode(), more)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.path.startswith("/cdn/"):
            self.server.hub.sends(self.wfile.write, body)
        else:
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: FakeHub

    def handle_error(self, *_: object) -> None:
        """A client that left in the middle is no news."""


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub on a free port of this machine, until the end of the block."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub = FakeHub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.hub
    finally:
        server.hub.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
