"""One try to deliver, to receivers that are hostile, broken, elsewhere than they seem, or not trusted."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from janflask.deliveries import post
from janflask.deliveries.post import Outcome
from janflask.downloads import safety
from janflask.downloads.wire import Patience
from janflask.webhooks import signing
from janflask.webhooks.endpoints import Endpoint, Secret
from tests.fakes.webhook_receiver import receiving

CERTIFICATE = Path(__file__).parents[1] / "fakes" / "localhost.pem"
IMPATIENT = Patience(silence=0.5, head=1.0)
LIMIT = 20.0  # seconds


def sent(url: str, private: bool = True, patience: Patience = IMPATIENT) -> Outcome:
    secrets = [Secret(signing.new_secret())]
    endpoint = Endpoint(id="we_1", url=url, events=["*"], secrets=secrets, created=1, private=private)
    return post.post(endpoint, "evt_1", "thread.created", {"id": "t"}, 1, patience=patience)


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of one who is asked once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                with sock if context is None else context.wrap_socket(sock, server_side=True) as spoken:
                    answer(spoken)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.close()
            thread.join(LIMIT)
            assert not thread.is_alive()


def piece_of(sock: socket.socket) -> bytes:
    piece = sock.recv(65536)
    if not piece:
        raise ConnectionAbortedError("the other side has gone")
    return piece


def take_request(sock: socket.socket) -> None:
    """All of it: who closes with something unread takes the answer back."""
    got = b""
    while (end := got.find(b"\r\n\r\n")) < 0:
        got += piece_of(sock)
    length = re.search(rb"(?i)content-length: *([0-9]+)", got)
    assert length is not None
    while len(got) < end + 4 + int(length[1]):
        got += piece_of(sock)


def saying(*pieces: bytes, pause: float = 0.0, again: bool = False) -> Callable[[socket.socket], None]:
    """Sends the pieces, and the last one for ever if it is to come ``again``, until the other side has gone."""

    def answer(sock: socket.socket) -> None:
        sock.settimeout(LIMIT)
        take_request(sock)
        for piece in pieces:
            sock.sendall(piece)
            time.sleep(pause)
        while again:
            sock.sendall(pieces[-1])
            time.sleep(pause)

    return answer


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (saying(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", pause=0.05, again=True), "took more than 1 s|timed out"),
        (saying(b"HTTP/1.1 200 OK\r\nX: ", b"y", pause=0.05, again=True), "took more than 1 s|timed out"),
        (saying(b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.01, again=True), "took more than 1 s|timed out"),
        (saying(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), "no HTTP"),
        (saying(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"), "no HTTP"),
        (saying(b"SSH-2.0-OpenSSH_9.2\r\n"), "no HTTP"),
        (saying(b"HTTP/1.1 999999 OK\r\n\r\n"), "no HTTP"),
        (saying(b"HTTP/1.1 -200 OK\r\n\r\n"), "no HTTP"),
        (saying(b""), "Remote end closed"),
        (saying(b"", b"", pause=3.0), "timed out"),
    ],
    ids=["headers", "header", "continue", "many", "long", "ssh", "status", "negative", "nothing", "silence"],
)
def test_what_is_no_answer_is_a_failure_in_time(answer: Callable[[socket.socket], None], problem: str) -> None:
    with answering(answer) as port:
        outcome = sent(f"http://127.0.0.1:{port}/")
    assert outcome.status is None
    assert re.search(problem, outcome.problem)


def test_the_body_of_an_answer_is_not_read() -> None:
    with answering(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536, again=True)) as port:
        assert sent(f"http://127.0.0.1:{port}/") == Outcome(200, "")


def test_a_redirect_is_not_followed() -> None:
    with receiving() as other, receiving(lambda hook: (307, {"Location": other.url})) as receiver:
        outcome = sent(receiver.url)
        assert outcome == Outcome(307, "it answered 307, and a redirect is not followed")
        assert other.hooks == []


@pytest.mark.parametrize(
    ("status", "value", "seconds"),
    [
        (429, "7", 7.0),
        (503, "999999999", 86_400.0),
        (503, "-1", None),
        (503, "1e9", None),
        (503, "Fri, 31 Dec 1999 23:59:59 GMT", None),
        (500, "7", None),
    ],
)
def test_when_to_come_again(status: int, value: str, seconds: float | None) -> None:
    with receiving(lambda hook: (status, {"Retry-After": value})) as receiver:
        assert sent(receiver.url) == Outcome(status, f"it answered {status}", seconds)


def test_a_name_that_changes_its_mind_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A public address when the endpoint was added, one of this machine when it is sent: looked up anew, once."""
    answers = ["93.184.215.14", "127.0.0.1"]

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    monkeypatch.setattr(safety.socket, "getaddrinfo", look_up)
    post.check_address(post.check_target("https://rebinding.example/", False), False)
    outcome = sent("https://rebinding.example/", private=False)
    assert outcome.problem.startswith("rebinding.example is 127.0.0.1, which is not a public address")
    assert answers == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_addresses_that_are_not_public(host: str) -> None:
    assert "not a public address" in sent(f"https://{host}/", private=False).problem


def test_without_tls_only_where_that_was_allowed() -> None:
    assert sent("http://example.com/?token=1", private=False) == Outcome(
        None, "its URL cannot be used: `janflask webhooks list` shows it"
    )


def test_a_certificate_has_to_be_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    fine = saying(b"HTTP/1.1 204 No Content\r\n\r\n")
    with answering(fine, context) as port:
        assert "not trusted" in sent(f"https://localhost:{port}/").problem
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with answering(fine, context) as port:
        assert sent(f"https://localhost:{port}/") == Outcome(204, "")
    with answering(fine, context) as port:  # trusted, and another's
        monkeypatch.setattr(safety.socket, "getaddrinfo", lambda host, port, **_: [(2, 1, 6, "", ("127.0.0.1", port))])
        assert "not trusted" in sent(f"https://another.example:{port}/").problem


def test_one_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert sent(f"http://127.0.0.1:{port}/") == Outcome(None, "Connection refused")
    assert sent("https://no-such-host.invalid/", private=False).status is None
