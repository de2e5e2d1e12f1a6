"""What is told to a peer that may be slow or gone, by threads that must not wait for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from janflask.errors import ProtocolError
from janflask.ipc import frames
from janflask.ipc.channel import Channel
from janflask.ipc.messages.runner import RunSaid
from janflask.ipc.outbox import Outbox
from janflask.storage.run_log import TextEvent

LIMIT = 20.0  # seconds; nothing takes so long unless something is wrong


def said(number: int, size: int = 1) -> RunSaid:
    return RunSaid(number, [TextEvent("x" * size)])


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def heard(theirs: Channel, count: int) -> list[int]:
    messages = [theirs.message(LIMIT) for _ in range(count)]
    return [message.first for message in messages if isinstance(message, RunSaid)]


def test_what_the_socket_takes_is_there_before_anybody_sends(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox, theirs = Outbox(Channel(pair[0], "a peer")), Channel(pair[1], "us")
    for number in range(3):
        outbox.put(said(number))
    assert heard(theirs, 3) == [0, 1, 2]
    outbox.end()
    assert list(outbox.sending(lambda: LIMIT, LIMIT)) == []


def test_a_slow_peer_holds_nobody_up_and_hears_everything_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox, theirs = Outbox(Channel(pair[0], "a peer")), Channel(pair[1], "us")
    for number in range(40):
        outbox.put(said(number, 100_000))  # far more than the socket holds
    sender = threading.Thread(target=lambda: list(outbox.sending(lambda: LIMIT, LIMIT)))
    sender.start()
    early = heard(theirs, 20)
    for number in range(40, 80):
        outbox.put(said(number))
    outbox.end()
    assert early + heard(theirs, 60) == list(range(80))
    sender.join(LIMIT)
    assert not sender.is_alive()


def test_a_peer_that_takes_nothing_is_given_up(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox(Channel(pair[0], "a peer"))
    for number in range(40):
        outbox.put(said(number, 100_000))
    with pytest.raises(TimeoutError, match="a peer took too long"):
        list(outbox.sending(lambda: LIMIT, 0.01))


def test_a_peer_that_is_gone_is_told_by_the_sender_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox(Channel(pair[0], "a peer"))
    pair[1].close()
    for number in range(3):
        outbox.put(said(number))
    with pytest.raises(ConnectionError):
        list(outbox.sending(lambda: LIMIT, LIMIT))


def test_what_is_too_long_is_told_by_the_sender_alone(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_PAYLOAD", 100)
    outbox = Outbox(Channel(pair[0], "a peer"))
    outbox.put(said(1, 200))
    outbox.put(said(2))
    with pytest.raises(ProtocolError, match="byte limit"):
        list(outbox.sending(lambda: LIMIT, LIMIT))


def test_silence_is_told_now_and_then(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox = Outbox(Channel(pair[0], "a peer"))
    assert next(outbox.sending(lambda: 0.001, LIMIT)) is None
