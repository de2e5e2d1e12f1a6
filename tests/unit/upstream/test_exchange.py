"""An exchange over a connection that a test plays."""

from __future__ import annotations

from collections.abc import Callable

import h11
import pytest

from janflask.inference.upstream.exchange import MAX_HEADERS, Exchange, Link

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Played:
    """A connection whose ``send`` is the test's, and which has these pieces to give, None for a silence."""

    def __init__(self, send: Callable[[memoryview], int], pieces: list[bytes | None]) -> None:
        self.send = send
        self.pieces = pieces
        self.ready = True

    def advance(self) -> bool:
        return True

    def receive(self) -> bytes | None:
        return self.pieces.pop(0) if self.pieces else None


def exchange(played: Played, body: bytes | None = None) -> Exchange:
    link = Link.__new__(Link)
    link.connection = played  # type: ignore[assignment]
    link.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADERS)
    link.used = False
    return Exchange(link, "POST", "/v1/x", [("Host", "x")], body)


@pytest.mark.parametrize("error", [BrokenPipeError, ConnectionResetError])
def test_a_refusal_that_came_before_the_whole_request_was_sent(error: type[OSError]) -> None:
    def send(data: memoryview) -> int:
        raise error

    refused = exchange(Played(send, [b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno"]), b"x" * 9)
    pieces: list[bytes] = []
    refused.receive(pieces)
    assert (refused.status, pieces, refused.complete, refused.wants_write) == (413, [b"no"], True, False)


def test_a_request_that_is_sent_in_parts() -> None:
    sent, room = bytearray(), [5, 7, 0]

    def send(data: memoryview) -> int:
        count = min(len(data), room.pop(0)) if room else len(data)
        sent.extend(data[:count])
        return count

    asked = exchange(Played(send, []), b"body")
    asked.receive([])
    assert len(sent) == 12
    assert asked.wants_write
    asked.receive([])
    assert not asked.wants_write
    head, _, body = bytes(sent).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/x HTTP/1.1\r\n")
    assert b"Content-Length: 4" in head
    assert body == b"body"


@pytest.mark.parametrize("cut", range(1, len(OK)))
def test_an_answer_that_ends_too_early(cut: int) -> None:
    pieces: list[bytes] = []
    with pytest.raises(EOFError):
        exchange(Played(len, [OK[:cut], b""])).receive(pieces)
    assert b"".join(pieces) == OK.partition(b"\r\n\r\n")[2][: max(0, cut - len(OK) + 2)]


def test_an_answer_in_single_bytes_and_silences() -> None:
    pieces: list[bytes] = []
    asked = exchange(Played(len, [each for byte in OK for each in (bytes([byte]), None)]))
    while not asked.complete:
        asked.receive(pieces)
    assert b"".join(pieces) == b"hi"


def test_headers_without_an_end() -> None:
    endless = [b"HTTP/1.1 200 OK\r\n", *[b"x" * 1000 for _ in range(MAX_HEADERS // 1000 + 2)]]
    with pytest.raises(h11.RemoteProtocolError):
        exchange(Played(len, list(endless))).receive([])
