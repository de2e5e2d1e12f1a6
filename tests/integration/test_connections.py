"""Clients that say nothing, say it slowly, do not listen or come in crowds: the others are answered meanwhile."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from tests.integration.addresses import reachable_address
from tests.integration.gunicorn_world import environment, folder_with_model, running
from tests.integration.waiting import LIMIT, free_port, wait_for

MB = 1 << 20
THREADS = 4
HEAD = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\n"
NO_LIMIT = "--worker-connections=200"


class Server:
    """One worker with four threads."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port = port
        self.host = host
        self.url = f"http://{host}:{port}"

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/v1/models", timeout=LIMIT).status_code == 200
        except httpx.TransportError:
            return False

    def connect(self, sent: bytes = b"", receive_buffer: int | None = None) -> socket.socket:
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(LIMIT)
        client.connect((self.host, self.port))
        client.sendall(sent)
        return client


@contextmanager
def serving(options: str = NO_LIMIT, host: str = "127.0.0.1", **settings: str) -> Iterator[Server]:
    port = free_port()
    with folder_with_model("") as folder:
        limits = {"JANFLASK_HEADER_TIMEOUT": "3", "JANFLASK_SEND_TIMEOUT": "3", "JANFLASK_THREADS": str(THREADS)}
        env = environment(folder, JANFLASK_PORT=str(port), GUNICORN_CMD_ARGS=options, **{**limits, **settings})
        server = Server(port, host)
        with (folder / "log").open("w") as log, running("wsgi:app", env, server.answers, log, log):
            yield server
        assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def everything(client: socket.socket) -> bytes:
    """What is sent until the connection is closed."""
    with client:
        return b"".join(iter(lambda: client.recv(65536), b""))


def models(client: socket.socket, answers: int = 1) -> bytes:
    """What is sent, until so many lists of models have come."""
    received = b""
    while received.count(b'"object":"list"') < answers or not received.endswith(b"]}"):
        received += client.recv(65536)
    return received


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def error(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: application/json" in head
    assert b"Connection: close" in head
    found: dict[str, Any] = json.loads(body)["error"]
    return found


# --- who says nothing, or says it slowly ------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"G", HEAD, HEAD + b"X-Slow: "], ids=["nothing", "a byte", "a line", "half"])
def test_a_head_that_does_not_come_holds_no_thread(server: Server, sent: bytes) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect(sent)) for _ in range(15 * THREADS)]
        assert server.answers()
        for client in clients:
            answer = everything(client)
            assert (answer == b"") if not sent else (error(answer)["code"] == "request_timeout")


def test_each_byte_gives_no_more_time(server: Server) -> None:
    with server.connect() as client:
        told = b""
        client.settimeout(0.1)
        for byte in HEAD + b"X-Slow: " + b"x" * 1000:  # 100 s, if it were let
            client.sendall(bytes([byte]))
            try:
                told = client.recv(65536)
            except TimeoutError:
                continue
            break
        assert status(told) == 408


def test_a_slow_head_is_answered(server: Server) -> None:
    with server.connect() as client:
        for _ in range(2):  # the second on a connection that was kept open
            for start in range(0, len(HEAD), 5):
                client.sendall(HEAD[start : start + 5])
                client.settimeout(0.05)
                with pytest.raises(TimeoutError):
                    client.recv(1)
            client.settimeout(LIMIT)
            client.sendall(b"\r\n")
            assert status(models(client)) == 200


def test_several_requests_at_once_and_half_of_another(server: Server) -> None:
    with server.connect((HEAD + b"\r\n") * 3 + HEAD) as client:
        models(client, 3)
        client.sendall(b"\r\n")
        assert status(client.recv(65536)) == 200


# --- who sends what is no request -------------------------------------------------------------------------------------

NO_REQUESTS = {
    "a long line": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
    "a long line without an end": (b"GET /" + b"x" * 9000, 414),
    "a long header": (HEAD + b"X: " + b"x" * 9000 + b"\r\n\r\n", 431),
    "many headers": (HEAD + b"X: y\r\n" * 200 + b"\r\n", 431),
    "headers without an end": (HEAD + (b"X: " + b"x" * 7000 + b"\r\n") * 20, 431),
    "lines of another kind": (b"GET /v1/models HTTP/1.1\nHost: localhost\n\n", 400),
    "words": (b"hello, who is there?\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "another coding": (POST + b"Transfer-Encoding: zip\r\n\r\n", 400),
    "two lengths": (
        b"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\n" + b"Content-Length: 2\r\n" * 2 + b"\r\n{}",
        400,
    ),
    "a length and chunks": (
        b"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        400,
    ),
}


@pytest.mark.parametrize("what", NO_REQUESTS)
def test_what_is_no_request_is_told_so_as_json(server: Server, what: str) -> None:
    sent, expected = NO_REQUESTS[what]
    answer = everything(server.connect(sent))
    assert status(answer) == expected
    assert set(error(answer)) == {"message", "type", "param", "code"}


def test_who_does_not_close_holds_nobody_up(server: Server) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect(b"hello\r\n\r\n")) for _ in range(15 * THREADS)]
        assert server.answers()
        for client in clients:
            assert status(everything(client)) == 400


# --- who does not listen ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(server: Server) -> str:
    """The path of 32 MiB, more than all buffers on the way."""
    files = {"file": ("large.bin", os.urandom(MB) * 32)}
    sent = httpx.post(f"{server.url}/v1/files", files=files, data={"purpose": "assistants"}, timeout=LIMIT)
    return f"/v1/files/{sent.json()['id']}/content"


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def test_who_reads_nothing_is_given_up(server: Server, large: str) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect(request(large), 4096)) for _ in range(THREADS)]
        assert server.answers()
        for client in clients:
            received = 0
            try:
                while piece := client.recv(MB):
                    received += len(piece)
            except ConnectionError:
                pass
            assert 0 < received < 32 * MB


def test_who_reads_slowly_gets_all(server: Server, large: str) -> None:
    with server.connect(request(large), 65536) as client:
        received = bytearray()
        waits = 0
        while piece := client.recv(MB):
            received += piece
            if len(received) > (waits + 1) * 4 * MB:
                waits += 1
                time.sleep(0.7)  # longer than the limit in all
        assert waits > 5
        assert len(received) > 32 * MB


# --- crowds -----------------------------------------------------------------------------------------------------------


def test_one_address_has_so_many_connections() -> None:
    settings = {"JANFLASK_HOST": "0.0.0.0", "JANFLASK_ALLOW_KEYLESS": "1", "JANFLASK_CLIENT_CONNECTIONS": "5"}
    with reachable_address() as address, serving(host=address, **settings) as server, ExitStack() as stack:
        here = Server(server.port)
        held = [stack.enter_context(server.connect(HEAD)) for _ in range(5)]
        assert error(everything(server.connect()))["code"] == "too_many_connections"
        assert here.answers()  # who is on this machine is not counted
        held[0].sendall(b"\r\n")
        models(held[0])  # those that are there go on
        held[0].close()
        wait_for(server.answers)
        for client in held[1:]:
            client.close()
        wait_for(server.answers)


def test_an_idle_connection_makes_room() -> None:
    with serving("--worker-connections=10") as server, ExitStack() as stack:
        idle = [stack.enter_context(server.connect(HEAD + b"\r\n")) for _ in range(5)]
        for client in idle:
            models(client)
        silent = [stack.enter_context(server.connect()) for _ in range(12)]
        assert server.answers()
        assert everything(idle[0]) == b""
        assert len(silent) == 12


def test_who_comes_gets_the_worker_that_has_a_thread_left() -> None:
    settings = {"JANFLASK_THREADS": "2", "JANFLASK_WORKERS": "2", "JANFLASK_UPLOAD_TIMEOUT": str(2 * LIMIT)}
    body = POST + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    with serving(**settings) as server, ExitStack() as stack:
        held = []
        for _ in range(3):  # each holds a thread, whichever worker has it
            held.append(stack.enter_context(server.connect(body)))
            time.sleep(0.2)
        for _ in range(3):
            assert server.answers(), "the fourth thread is free"
            held.append(stack.enter_context(server.connect(HEAD)))  # one that waits for its head needs none
        held.append(stack.enter_context(server.connect(body)))
        time.sleep(0.2)
        late = stack.enter_context(server.connect(HEAD + b"\r\n"))
        late.settimeout(0.5)
        with pytest.raises(TimeoutError):
            late.recv(1)
        held[0].sendall(b'{"a": 1} ')
        late.settimeout(LIMIT)
        models(late)


def test_the_headers_of_a_refusal_are_whole(server: Server) -> None:
    answer = everything(server.connect(b"hello\r\n\r\n"))
    head, _, body = answer.partition(b"\r\n\r\n")
    (length,) = re.findall(rb"Content-Length: (\d+)", head)
    assert int(length) == len(body)
