"""Waiting for several descriptors while watching a client."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from janflask.errors import ClientDisconnectedError
from janflask.inference.waiting import Waiter

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def engine() -> Iterator[Pair]:
    pair = socket.socketpair()
    yield pair
    for end in pair:
        end.close()


@pytest.fixture
def client() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    yield near, far
    near.close()
    far.close()


def test_nothing_to_read(engine: Pair, client: Pair) -> None:
    waiter = Waiter(client[0])
    waiter.watch(engine[0])
    assert waiter.wait(0.0) == []


def test_something_to_read(engine: Pair, client: Pair) -> None:
    waiter = Waiter(client[0])
    waiter.watch(engine[0])
    engine[1].send(b"x")
    assert waiter.wait(20.0) == [engine[0].fileno()]


def test_the_end_of_what_is_waited_for(engine: Pair) -> None:
    waiter = Waiter()
    waiter.watch(engine[0])
    engine[1].close()
    assert waiter.wait(20.0) == [engine[0].fileno()]


def test_room_to_write(engine: Pair) -> None:
    waiter = Waiter()
    waiter.watch(engine[0], writing=True)
    assert waiter.wait(20.0) == [engine[0].fileno()]
    waiter.watch(engine[0])  # from now on only what comes
    assert waiter.wait(0.0) == []


def test_no_longer_waited_for(engine: Pair) -> None:
    waiter = Waiter()
    waiter.watch(engine[0])
    waiter.unwatch(engine[0])
    engine[1].send(b"x")
    assert waiter.wait(0.0) == []


@pytest.mark.parametrize("unread", [b"", b"GET / HTTP/1.1\r\n"])
def test_a_client_that_closes(engine: Pair, client: Pair, unread: bytes) -> None:
    waiter = Waiter(client[0])
    waiter.watch(engine[0])
    client[1].sendall(unread)
    client[1].close()
    with pytest.raises(ClientDisconnectedError):
        waiter.wait(20.0)


def test_a_client_that_sends_more_stays(engine: Pair, client: Pair) -> None:
    waiter = Waiter(client[0])
    waiter.watch(engine[0])
    client[1].sendall(b"GET / HTTP/1.1\r\n")
    assert waiter.wait(0.05) == []


def test_a_lost_client_matters_more_than_an_answer(engine: Pair, client: Pair) -> None:
    waiter = Waiter(client[0])
    waiter.watch(engine[0])
    engine[1].send(b"x")
    client[1].close()
    with pytest.raises(ClientDisconnectedError):
        waiter.wait(20.0)


def test_a_client_whose_socket_is_closed_already_is_not_watched(engine: Pair, client: Pair) -> None:
    client[0].close()
    assert Waiter(client[0]).wait(0.0) == []
