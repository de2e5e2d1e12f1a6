"""HTTP as gunicorn and the application speak it together: connections, bodies, names, prefixes."""

from __future__ import annotations

import gzip
import io
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.e2e.server import LIMIT, Server, serving

KIB = 1 << 10
JSON = "Content-Type: application/json\r\n"
APP = "https://app.example.com"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a model, of one worker, that takes bodies of 1 MiB and does not wait long for them."""
    settings = {"JANFLASK_MAX_BODY_MB": "1", "JANFLASK_MAX_UPLOAD_MB": "2", "JANFLASK_UPLOAD_TIMEOUT": "2"}
    with serving(tmp_path_factory.mktemp("http") / "data", **settings, JANFLASK_CORS_ORIGINS=APP) as server:
        yield server


class Connection:
    """One client's connection, of which one answer after the other is read."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")

    def send(self, start: str, body: bytes = b"", headers: str = "", chunked: bool = False) -> None:
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
        head = f"{start} HTTP/1.1\r\nHost: localhost\r\n{headers}{framing}\r\n\r\n"
        self.sock.sendall(head.encode() + (in_chunks(body) if chunked else body))

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by their names in lower case, and body of the next answer."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while (line := self._file.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self._file.read(int(headers.get("content-length", 0)))

    def close(self) -> None:
        self._file.close()

    def is_closed(self) -> bool:
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True


@contextmanager
def connected(server: Server) -> Iterator[Connection]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as sock:
        connection = Connection(sock)
        try:
            yield connection
        finally:
            connection.close()


def in_chunks(body: bytes, size: int = 10_000) -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def goes_on(connection: Connection) -> bool:
    connection.send("GET /v1/files")
    status, headers, body = connection.answer()
    return (status, body[:1], headers["connection"]) == (200, b"{", "keep-alive")


# --- an answer that did not need the body -----------------------------------------------------------------------------

UNREAD = [
    ("POST /nowhere", JSON, 404),
    ("PUT /v1/threads", JSON, 405),
    ("POST /v1/threads", JSON + "Origin: https://evil.example\r\n", 403),
    ("POST /v1/threads", JSON + "Content-Encoding: br\r\n", 415),
    ("POST /v1/files", JSON, 415),
    ("DELETE /v1/threads/none", JSON, 404),
]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(("start", "headers", "status"), UNREAD)
def test_the_next_request_is_answered(bare: Server, start: str, headers: str, status: int, chunked: bool) -> None:
    with connected(bare) as connection:
        for _ in range(2):
            connection.send(start, b"x" * (700 * KIB), headers, chunked)
            answer = connection.answer()
            assert (answer[0], answer[1]["connection"]) == (status, "keep-alive")
        assert goes_on(connection)


def test_the_next_request_may_be_there_already(bare: Server) -> None:
    with connected(bare) as connection:
        for _ in range(3):
            connection.send("POST /nowhere", b"x" * (100 * KIB), JSON)
        connection.send("GET /v1/files")
        assert [connection.answer()[0] for _ in range(4)] == [404, 404, 404, 200]


def test_a_client_that_asks_before_it_sends(bare: Server) -> None:
    with connected(bare) as connection:
        connection.send("POST /nowhere", b"x" * (100 * KIB), JSON + "Expect: 100-continue\r\n")
        assert [connection.answer()[0] for _ in range(2)] == [100, 404]
        assert goes_on(connection)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_more_than_is_read_in_vain_ends_the_connection(bare: Server, chunked: bool) -> None:
    with connected(bare) as connection:
        connection.send("POST /nowhere", b"x" * (1100 * KIB), JSON, chunked)
        status, headers, _ = connection.answer()
        assert (status, headers["connection"]) == (404, "close")
        assert connection.is_closed()


@pytest.mark.parametrize("path", ["/nowhere", "/v1/threads"])
def test_a_body_that_stops_in_its_middle_ends_the_connection(bare: Server, path: str) -> None:
    with connected(bare) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: {200 * KIB}\r\n\r\n"
        connection.sock.sendall(head.encode() + b"x" * (100 * KIB))
        status, headers, _ = connection.answer()
        assert (status, headers["connection"]) == (404 if path == "/nowhere" else 408, "close")
        assert connection.is_closed()


def test_a_malformed_body_ends_the_connection(bare: Server) -> None:
    with connected(bare) as connection:
        head = f"POST /nowhere HTTP/1.1\r\nHost: localhost\r\n{JSON}Transfer-Encoding: chunked\r\n\r\nnonsense\r\n"
        connection.sock.sendall(head.encode())
        status, headers, _ = connection.answer()
        assert (status, headers["connection"]) == (404, "close")
        assert connection.is_closed()


@pytest.mark.parametrize("headers", [JSON, JSON + "Content-Encoding: gzip\r\n"], ids=["plain", "packed"])
@pytest.mark.parametrize("body", ["nonsense\r\n", "2\r\n{}nonsense\r\n", "2\r\n{}\r\nGET /v1/files HTTP/1.1\r\n\r\n"])
def test_a_malformed_body_that_is_needed_is_the_clients_mistake(bare: Server, body: str, headers: str) -> None:
    with connected(bare) as connection:
        head = f"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\n{headers}Transfer-Encoding: chunked\r\n\r\n"
        connection.sock.sendall((head + body).encode())
        status, answered, content = connection.answer()
        assert (status, answered["connection"]) == (400, "close")
        assert b'"invalid_body"' in content
        assert connection.is_closed()
    assert "Traceback" not in bare.log.read_text()


@pytest.mark.parametrize("body", [b"", b"{}", gzip.compress(b"{}")], ids=["nothing", "plain", "packed"])
def test_a_body_that_was_cut_is_not_taken_for_a_whole_one(bare: Server, body: bytes) -> None:
    before = ask(bare, "GET", "/v1/threads").json()
    headers = JSON + ("Content-Encoding: gzip\r\n" if len(body) > 2 else "")
    with connected(bare) as connection:
        head = f"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {len(body) + 9}\r\n\r\n"
        connection.sock.sendall(head.encode() + body)
        connection.sock.shutdown(socket.SHUT_WR)
        status, answered, _ = connection.answer()
        assert (status, answered["connection"]) == (499, "close")
    assert ask(bare, "GET", "/v1/threads").json() == before


def test_a_body_that_was_read_leaves_the_connection_open(bare: Server) -> None:
    with connected(bare) as connection:
        for _ in range(2):
            connection.send("POST /v1/threads", b'{"title": "%s"}' % (b"x" * 500), JSON)
            assert connection.answer()[0] == 200
        assert goes_on(connection)


# --- packed bodies ----------------------------------------------------------------------------------------------------


def form(content: bytes) -> bytes:
    head = b'--f\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    tail = b'\r\n--f\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--f--\r\n'
    return head + content + tail


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_packed_bodies_are_unpacked(bare: Server, chunked: bool) -> None:
    packed = "Content-Encoding: gzip\r\n"
    with connected(bare) as connection:
        connection.send("POST /v1/threads", gzip.compress(b'{"title": "packed"}'), JSON + packed, chunked)
        status, _, body = connection.answer()
        assert (status, b'"title":"packed"' in body) == (200, True)
        multipart = "Content-Type: multipart/form-data; boundary=f\r\n"
        connection.send("POST /v1/files", gzip.compress(form(b"x" * (1 << 20))), multipart + packed, chunked)
        status, _, body = connection.answer()
        assert (status, b'"bytes":1048576' in body) == (200, True)
        bomb = gzip.compress(b'{"title": "' + b"x" * (200 << 20) + b'"}', 9)
        assert len(bomb) < 256 * KIB
        connection.send("POST /v1/threads", bomb, JSON + packed, chunked)
        assert connection.answer()[0] == 413
        connection.send("POST /v1/files", gzip.compress(form(b"x" * (3 << 20))), multipart + packed, chunked)
        assert connection.answer()[0] == 413
        connection.send("POST /v1/threads", b"{}", JSON + packed, chunked)
        assert connection.answer()[0] == 400
        assert goes_on(connection)


def test_a_body_in_chunks_is_never_cut_at_the_limit(bare: Server) -> None:
    body = b'{"title": "x"}' + b" " * (1 << 20)
    with connected(bare) as connection:
        connection.send("POST /v1/threads", body, JSON, chunked=True)
        assert connection.answer()[0] == 413


# --- names and prefixes -----------------------------------------------------------------------------------------------


def ask(bare: Server, method: str, path: str, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, bare.url + path, headers=names, timeout=LIMIT)


def test_pages_from_elsewhere(bare: Server) -> None:
    before = ask(bare, "GET", "/v1/threads").json()
    for method in ("GET", "POST"):
        assert ask(bare, method, "/v1/threads", Origin="https://evil.example").status_code == 403
    files = {"file": ("a.txt", io.BytesIO(b"x"))}
    form: Any = {"files": files, "data": {"purpose": "assistants"}, "headers": {"Origin": "https://evil.example"}}
    assert httpx.post(f"{bare.url}/v1/files", **form, timeout=LIMIT).status_code == 403
    assert ask(bare, "POST", "/v1/threads", Host="evil.example", Origin="http://evil.example").status_code == 403
    assert ask(bare, "GET", "/v1/threads", Host="evil.example").json()["error"]["code"] == "unknown_host"
    assert ask(bare, "GET", "/v1/threads").json() == before
    assert ask(bare, "POST", "/v1/threads", Origin=bare.url).status_code == 200
    listed = ask(bare, "POST", "/v1/threads", Origin=APP)
    assert (listed.status_code, listed.headers["Access-Control-Allow-Origin"]) == (200, APP)
    error = ask(bare, "POST", "/v1/chat/completions", Origin=APP)
    assert (error.status_code, error.headers["Access-Control-Allow-Origin"]) == (400, APP)
    asks = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
    preflight = ask(bare, "OPTIONS", "/v1/chat/completions", Origin=APP, **asks)
    assert (preflight.status_code, preflight.headers["Access-Control-Allow-Headers"]) == (204, "authorization")


def test_a_request_without_a_host(bare: Server) -> None:
    with connected(bare) as connection:
        connection.sock.sendall(b"GET /v1/threads HTTP/1.0\r\n\r\n")
        assert connection.answer()[0] == 200


def test_tls_that_ends_at_a_proxy_on_this_machine(bare: Server) -> None:
    headers = {"Host": "localhost", "Origin": "https://localhost"}
    assert ask(bare, "POST", "/v1/threads", **headers).status_code == 403
    assert ask(bare, "POST", "/v1/threads", **headers, X_Forwarded_Proto="https").status_code == 200


def test_below_a_prefix(bare: Server) -> None:
    def below(path: str) -> httpx.Response:
        return httpx.get(f"{bare.url}/llm{path}", headers={"SCRIPT_NAME": "/llm"}, timeout=LIMIT)

    assert below("").headers["Location"] == "/llm/", "the page's links are relative"
    for link in re.findall(r'(?:src|href)="\./([^"]+)"', below("/").text):
        assert below(f"/{link}").status_code == 200
    page = below("/docs")
    links = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert len(links) == 3
    for link in links:
        assert link.startswith("/llm/docs/assets/")
        assert below(link.removeprefix("/llm")).status_code == 200
    assert 'data-document="/llm/openapi.json"' in page.text
    assert below("/openapi.json").json()["servers"][0]["url"] == "/llm"
    assert "/llm/docs lists" in below("/nowhere").json()["error"]["message"]
    assert ask(bare, "GET", "/openapi.json").json()["servers"][0]["url"] == "/"
