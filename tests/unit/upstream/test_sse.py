"""Server-sent events, however they are cut and however their lines end."""

from __future__ import annotations

import random

import pytest

from janflask.inference.upstream.sse import EventReader, TooLongError

STREAM = (
    b"\xef\xbb\xbf: a comment\n\n"
    b"data: one\n\n"
    b"event: message\r\nid: 7\r\ndata:two\r\ndata: lines\r\n\r\n"
    b"data: cr\rretry: 5\r\r"
    b"data\n\n"
    b"data:  two spaces\n\n"
    b":\n\n\n"
    b"database: no\n\n"
    b"data: last\n\n"
)
EVENTS = [b"one", b"two\nlines", b"cr", b" two spaces", b"last"]


def read(pieces: list[bytes], limit: int = 1000) -> list[bytes]:
    reader = EventReader(limit)
    found = [event for piece in pieces for event in reader.feed(piece)]
    return found + reader.end()


def test_one_piece() -> None:
    assert [event for event in read([STREAM]) if event] == EVENTS


def test_any_cut() -> None:
    for seed in range(300):
        chance = random.Random(seed)
        cuts = sorted(chance.sample(range(len(STREAM)), chance.randint(1, 40)))
        pieces = [STREAM[start:end] for start, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]
        assert [event for event in read(pieces) if event] == EVENTS


def test_an_empty_data_line_is_an_event() -> None:
    assert read([b"data\n\ndata:\n\n"]) == [b"", b""]


def test_an_event_comes_as_soon_as_its_empty_line() -> None:
    reader = EventReader(1000)
    assert reader.feed(b"data: a\n") == []
    assert reader.feed(b"\n") == [b"a"]
    assert reader.feed(b"data: b\r\n\r") == []  # a line feed may follow
    assert reader.feed(b"\n") == [b"b"]


@pytest.mark.parametrize("rest", [b"data: x", b"data: x\n", b"data: x\r", b"data: x\r\n"])
def test_the_last_event_may_have_no_end(rest: bytes) -> None:
    assert read([b"data: a\n\n", rest]) == [b"a", b"x"]


@pytest.mark.parametrize(
    "pieces", [[b"data: " + b"x" * 2000], [b"x" * 600, b"x" * 600], [b"data: " + b"x" * 90 + b"\n"] * 12]
)
def test_what_is_too_long(pieces: list[bytes]) -> None:
    with pytest.raises(TooLongError):
        read(pieces)


def test_many_events_are_not_too_long() -> None:
    assert len(read([b"data: " + b"x" * 90 + b"\n\n"] * 100)) == 100


def test_the_work_does_not_grow_with_the_square_of_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long line that comes in many pieces is looked through once."""
    reader = EventReader(1 << 20)
    for _ in range(1000):
        assert reader.feed(b"x" * 100) == []
        assert reader._scanned >= len(reader._rest) - 1
