"""Uploads and downloads through gunicorn: little memory, clients that vanish, bodies that lie about their length."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.integration.waiting import LIMIT, free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
MAX_MB = 65
MB = 1 << 20
HEAD = b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
TAIL = b'\r\n--frontier\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--frontier--\r\n'


class Server:
    """gunicorn with one worker and the whole application."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, data_dir: Path, trusted: Path | None) -> None:
        """``trusted``: the certificate of one that speaks HTTPS."""
        self.process = process
        self.port = port
        self.trusted = trusted
        self.url = f"{'http' if trusted is None else 'https'}://127.0.0.1:{port}/v1/files"
        self.folder = data_dir / "files"

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError("gunicorn ended")
        if self.trusted is not None and not self.trusted.exists():
            return False
        try:
            trusted = ssl.create_default_context(cafile=self.trusted)
            return httpx.get(self.url, timeout=LIMIT, verify=trusted).status_code == 200
        except httpx.TransportError:
            return False

    def files(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(self.url, timeout=LIMIT).json()["data"]
        return found

    def on_disk(self) -> dict[Path, int]:
        """Every file in the folder of the uploads and its size, whatever it is."""
        sizes = {}
        for path in self.folder.rglob("*"):
            try:
                if path.is_file():
                    sizes[path] = path.stat().st_size
            except FileNotFoundError:
                continue  # it went away meanwhile
        return sizes

    @property
    def worker(self) -> int:
        children = psutil.Process(self.process.pid).children()
        (child,) = [child for child in children if not any("janflask." in word for word in child.cmdline())]
        return child.pid

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)
        if self.trusted is None:
            return connection
        context = ssl.create_default_context(cafile=self.trusted)
        return context.wrap_socket(connection, server_hostname="127.0.0.1", suppress_ragged_eofs=False)


@contextmanager
def serving(folder: Path, scheme: str, **settings: str) -> Iterator[Server]:
    """By HTTPS with the shipped configuration, whose worker differs from gunicorn's own there."""
    port, secured = free_port(), scheme == "https"
    env = os.environ | {
        "JANFLASK_DATA_DIR": str(folder / "data"),
        "JANFLASK_RUNTIME_DIR": str(folder / "run"),
        "JANFLASK_MAX_UPLOAD_MB": str(MAX_MB),
        "JANFLASK_MAX_BODY_MB": "1",
        "JANFLASK_TLS_SELF_SIGNED": "1" if secured else "0",
        "JANFLASK_SPARE_ENGINE": "0",
        **settings,
    }
    trusted = folder / "data" / "self-signed.crt" if secured else None
    options = ["--threads", "8", "--no-control-socket", "-b", f"127.0.0.1:{port}", "wsgi:app"]
    with (folder / "log").open("w") as log:
        configuration = ["-c", "conf/gunicorn.conf.py"] if secured else ["-k", "gthread"]
        command = [sys.executable, "-m", "gunicorn", *configuration, *options]
        with subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log) as process:
            server = Server(process, port, folder / "data", trusted)
            try:
                wait_for(server.answers)
                yield server
            finally:
                process.terminate()


@pytest.fixture(scope="module", params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, scheme: str) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("uploads"), scheme) as server:
        yield server


@pytest.fixture(autouse=True)
def _trusts_the_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"server", "impatient"} & set(request.fixturenames)
    trusted = request.getfixturevalue(found.pop()).trusted if found else None
    if trusted is not None:
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))  # which httpx reads


def content(megabytes: int) -> Iterator[bytes]:
    """So many MiB, in pieces, of which no two are the same."""
    for number in range(megabytes):
        yield hashlib.sha256(str(number).encode()).digest() * (MB // 32)


def upload(server: Server, megabytes: int) -> dict[str, Any]:
    def body() -> Iterator[bytes]:
        yield HEAD
        yield from content(megabytes)
        yield TAIL

    length = len(HEAD) + megabytes * MB + len(TAIL)
    headers = {"Content-Type": "multipart/form-data; boundary=frontier", "Content-Length": str(length)}
    response = httpx.post(server.url, content=body(), headers=headers, timeout=LIMIT)
    assert response.status_code == 200, response.text
    file: dict[str, Any] = response.json()
    return file


def peak_kib(pid: int) -> int:
    """The most memory that the process has had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def test_a_large_file_costs_little_memory(server: Server) -> None:
    upload(server, 1)  # what is loaded once
    worker = server.worker
    Path(f"/proc/{worker}/clear_refs").write_text("5")  # the peak so far was that of the start
    before = peak_kib(worker)
    file = upload(server, 64)
    assert file["bytes"] == 64 * MB
    assert peak_kib(worker) - before < 10 * 1024
    digest = hashlib.sha256()
    with httpx.stream("GET", f"{server.url}/{file['id']}/content", timeout=LIMIT) as download:
        assert download.headers["Content-Length"] == str(64 * MB)
        for piece in download.iter_bytes():
            digest.update(piece)
    expected = hashlib.sha256()
    for piece in content(64):
        expected.update(piece)
    assert digest.digest() == expected.digest()
    assert download.headers["ETag"] == f'"{expected.hexdigest()}"'
    assert peak_kib(worker) - before < 10 * 1024
    part = httpx.get(f"{server.url}/{file['id']}/content", headers={"Range": f"bytes={50 * MB}-{50 * MB + 9}"})
    assert (part.status_code, part.content) == (206, list(content(51))[50][:10])
    assert httpx.delete(f"{server.url}/{file['id']}", timeout=LIMIT).status_code == 200


def document(megabytes: int) -> Iterator[bytes]:
    """An exported thread of one message and one file of so many MiB, in pieces."""
    head = {"object": "thread.export", "version": 1, "thread": {"id": "t"}}
    yield json.dumps(head).encode()[:-1] + b', "messages": [{"role": "user", "content": [], "file_ids": ["file-1"]}], '
    yield b'"files": [{"id": "file-1", "filename": "big.bin", "purpose": "assistants", "content": "'
    for piece in content(megabytes * 3 // 4):
        yield base64.b64encode(piece[: MB - 1])  # a multiple of three
    yield b'"}]}'


def test_a_large_document_costs_little_memory(server: Server) -> None:
    url = server.url.replace("/files", "/threads/import")

    def imported(megabytes: int) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        return httpx.post(url, content=document(megabytes), headers=headers, timeout=LIMIT)

    assert imported(1).status_code == 200  # what is loaded once
    worker = server.worker
    Path(f"/proc/{worker}/clear_refs").write_text("5")
    before = peak_kib(worker)
    response = imported(60)
    assert response.status_code == 200, response.text
    assert max(file["bytes"] for file in server.files()) > 40 * MB
    assert peak_kib(worker) - before < 10 * 1024
    # What is no file's content is held in memory, so it has the limit of other bodies.
    long = b'{"object": "thread.export", "messages": [' + b'"x",' * MB + b'""]}'
    refused = httpx.post(url, content=long, headers={"Content-Type": "application/json"}, timeout=LIMIT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")
    assert peak_kib(worker) - before < 20 * 1024


def request_head(framing: str) -> bytes:
    return (
        "POST /v1/files HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary=frontier\r\n{framing}\r\n\r\n"
    ).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize("framing", ["Content-Length: 40000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_client_that_vanishes_leaves_nothing_behind(server: Server, framing: str, reset: bool) -> None:
    before, known = server.on_disk(), server.files()
    with server.connect() as client:
        data = HEAD + b"x" * (4 * MB)
        client.sendall(request_head(framing) + (chunk(data) if "chunked" in framing else data))
        wait_for(lambda: sum(server.on_disk().values()) > sum(before.values()))  # it is being written
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    wait_for(lambda: server.on_disk() == before)
    assert server.files() == known


def answer(client: socket.socket, last: bytes = b'"code"') -> bytes:
    """What the server sends until ``last``, which an error has."""
    received = b""
    while b"\r\n\r\n" not in received or last not in received:
        piece = client.recv(65536)
        if not piece:
            break
        received += piece
    return received


def test_a_length_beyond_the_limit_is_refused_before_the_body(server: Server) -> None:
    with server.connect() as client:
        client.sendall(request_head(f"Content-Length: {(MAX_MB + 2) * MB}"))
        received = answer(client)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 65 MiB" in received


def test_a_body_beyond_the_limit_is_refused_while_it_comes(server: Server) -> None:
    before = server.on_disk()
    with server.connect() as client:
        client.sendall(request_head("Transfer-Encoding: chunked") + chunk(HEAD))
        for _ in range(MAX_MB):
            client.sendall(chunk(b"x" * MB))
        client.sendall(chunk(b"x" * 100_000))  # the server reads 64 KiB at a time
        received = answer(client)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 65 MiB" in received
    wait_for(lambda: server.on_disk() == before)


def test_a_body_that_is_shorter_than_its_parts_say(server: Server) -> None:
    before = server.on_disk()
    with server.connect() as client:
        client.sendall(request_head(f"Content-Length: {len(HEAD) + 5}") + HEAD + b"hello" + TAIL)
        received = answer(client)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"not complete" in received
    wait_for(lambda: server.on_disk() == before)


def test_chunked_uploads(server: Server) -> None:
    with server.connect() as client:
        client.sendall(request_head("Transfer-Encoding: chunked\r\nConnection: close"))
        for piece in (HEAD[:20], HEAD[20:], b"hel", b"lo", TAIL[:7], TAIL[7:]):
            client.sendall(chunk(piece))
        client.sendall(b"0\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 200 ")
    file = server.files()[0]
    assert (file["filename"], file["bytes"]) == ("big.bin", 5)
    assert httpx.get(f"{server.url}/{file['id']}/content", timeout=LIMIT).content == b"hello"


def test_other_bodies_keep_their_own_limit(server: Server) -> None:
    url = server.url.replace("/files", "/assistants")
    response = httpx.post(url, json={"instructions": "x" * (2 * MB)}, timeout=LIMIT)
    assert response.status_code == 413


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, scheme: str) -> Iterator[Server]:
    """A server whose clients must not be silent for long."""
    with serving(tmp_path_factory.mktemp("impatient"), scheme, JANFLASK_UPLOAD_TIMEOUT="1") as server:
        yield server


@pytest.mark.parametrize("framing", ["Content-Length: 40000000", "Transfer-Encoding: chunked"])
def test_a_client_that_stops_in_its_upload_is_given_up(impatient: Server, framing: str) -> None:
    before = impatient.on_disk()
    clients = [impatient.connect() for _ in range(8)]  # as many as there are threads
    for client in clients:
        client.sendall(request_head(framing) + (chunk(HEAD) + b"1000\r\nhello" if "chunked" in framing else HEAD))
    for client in clients:
        with client:
            received = b"".join(iter(lambda client=client: client.recv(65536), b""))  # to its end: it is closed
            assert received.startswith(b"HTTP/1.1 408 ")
            assert b'"code":"request_timeout"' in received
    assert impatient.on_disk() == before
    assert impatient.files() == []


@pytest.mark.parametrize("path", ["/v1/threads", "/v1/threads/import"])
def test_other_bodies_that_do_not_come_are_given_up_too(impatient: Server, path: str) -> None:
    with impatient.connect() as client:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{"
        )
        client.sendall(head.encode())
        assert b"".join(iter(lambda: client.recv(65536), b"")).startswith(b"HTTP/1.1 408 ")


def test_a_connection_may_be_idle_between_requests_and_slow_within_one(impatient: Server) -> None:
    body = HEAD + b"hello" + TAIL
    with impatient.connect() as client:
        for _ in range(2):
            client.sendall(request_head(f"Content-Length: {len(body)}"))
            for start in range(0, len(body), 30):  # longer than the limit in all
                client.sendall(body[start : start + 30])
                time.sleep(0.2)
            assert answer(client, b'"status"').startswith(b"HTTP/1.1 200 ")
            time.sleep(1.2)


def test_an_answer_may_be_read_as_slowly_as_its_reader_likes(impatient: Server) -> None:
    upload(impatient, 16)
    with impatient.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        file_id = impatient.files()[0]["id"]
        client.sendall(f"GET /v1/files/{file_id}/content HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        time.sleep(1.5)
        assert sum(len(piece) for piece in iter(lambda: client.recv(MB), b"")) > 16 * MB
